"""What a denoiser call, encoding and decoding cost, in a process of its own. Prints a JSON line a size.

Usage: python -m jobs.bench.speed_cell, with a JSON object on stdin: prior, profile, overrides, sizes, repeat, backends.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
from PIL import Image

from jobs.bench.meter import Meter


def call_seconds(priors: dict[str, Any], side: int, repeat: int) -> dict[str, list[float]]:
    """Seconds of a call on one image of every prior, in turns, so that a busy machine slows all alike."""
    import torch

    x = torch.empty(1, 3, side, side).normal_(generator=torch.Generator().manual_seed(0))
    found: dict[str, list[float]] = {name: [] for name in priors}
    for turn in range(repeat + 1):
        for name, prior in priors.items():
            started = time.perf_counter()
            prior.denoise(x, 0.5)
            if turn:  # the first call packs weights and tests kernels
                found[name].append(time.perf_counter() - started)
    return found


def codec_costs(prior: Any, request: dict[str, Any], side: int) -> dict[str, Any]:
    """Seconds, peak memory and network calls to encode and decode one photograph."""
    import skimage.data

    import psc_core

    image = np.asarray(Image.fromarray(skimage.data.coffee()).resize((side, side), Image.Resampling.LANCZOS))
    profile = psc_core.get_profile(request["profile"], **request["overrides"])
    calls = prior.nfe
    with Meter() as encoding:
        stream = psc_core.encode(image, prior, profile)
    between = prior.nfe
    with Meter() as decoding:
        psc_core.decode(stream, prior)
    return {
        "bpp": stream.bpp,
        "seconds_encode": encoding.seconds,
        "seconds_decode": decoding.seconds,
        "nfe_encode": between - calls,
        "nfe_decode": prior.nfe - between,
        "memory_mb": max(encoding.memory_mb, decoding.memory_mb),
    }


def main() -> None:
    """Read the request, print the lines."""
    import psc_core
    from psc_core.exact.backends import VARIABLE, get_backend, known_answer

    request = json.load(sys.stdin)
    priors = {"float": psc_core.load_prior(request["prior"], arithmetic="float", device="cpu")}
    for name in filter(known_answer, request["backends"]):
        os.environ[VARIABLE] = name
        get_backend.cache_clear()
        priors[name] = psc_core.load_prior(request["prior"], device="cpu")
    for side in request["sizes"]:
        calls = call_seconds(priors, side, request["repeat"])
        line: dict[str, Any] = {"side": side, "calls": {}, "codec": {}}
        for name, seconds in calls.items():
            ratios = [own / other for own, other in zip(seconds, calls["float"], strict=True)]
            about = {"seconds": statistics.median(seconds), "over_float": statistics.median(ratios)}
            line["calls"][name] = about | {"fastest": min(seconds)}
        exact = sorted(set(priors) - {"float"}, key=lambda name: line["calls"][name]["over_float"])
        for name in ["float", *exact[:1]]:
            line["codec"][name] = codec_costs(priors[name], request, side)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
