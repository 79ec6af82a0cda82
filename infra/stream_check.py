"""Encode here, decode elsewhere: writes a stream with the hash of its pixels, or decodes it and compares.

Usage: python infra/stream_check.py encode FILE.psc PRIOR PROFILE
       python infra/stream_check.py decode FILE.psc [BACKEND ...]

Decoding replays every stage and checks the state hash that the encoder wrote, so that one other bit is an error. Exit
status 1 if states or pixels differ.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

FIELDS: dict[str, dict[str, Any]] = {
    "archive": {"tiers": 2, "restore_samples": 2, "restore_steps": 1},
    "paper": {"samples": 3, "rows": 2, "steps": 2, "stages": 1, "tiers": 2, "restore_samples": 2},
}
SIDE = 64


def encode(path: Path, prior_name: str, profile: str) -> None:
    """A photograph at 64 x 64."""
    import numpy as np
    import skimage.data
    from PIL import Image

    import psc_core

    image = np.asarray(Image.fromarray(skimage.data.coffee()).resize((SIDE, SIDE)))
    prior = psc_core.load_prior(prior_name, device="cpu")
    stream = psc_core.encode(image, prior, psc_core.get_profile(profile, **FIELDS[profile]))
    path.write_bytes(stream.to_bytes())
    path.with_suffix(".sha256").write_text(_hash(psc_core.decode(stream, prior)))
    print(f"{path.stem}: {stream.nbytes} bytes encoded on {_machine(prior)}")


def decode(path: Path, backend: str | None) -> bool:
    """Whether states and pixels are those of the encoder's machine."""
    import psc_core
    from psc_core.exact.backends import VARIABLE, get_backend

    get_backend.cache_clear()
    if backend is not None:
        os.environ[VARIABLE] = backend
    stream = psc_core.Stream.from_bytes(path.read_bytes())
    prior = psc_core.load_prior(stream.shared.prior_name, device="cpu")
    started = time.perf_counter()
    try:
        same = _hash(psc_core.decode(stream, prior)) == path.with_suffix(".sha256").read_text()
    except psc_core.PscError as error:
        print(error)
        same = False
    verdict = "identical" if same else "DIFFERENT"
    print(f"{path.stem}: {verdict} on {_machine(prior)}, {time.perf_counter() - started:.0f} s", flush=True)
    return same


def _hash(pixels: Any) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _machine(prior: Any) -> str:
    import torch

    from psc_core.coding.range_coder import coder_name

    backend = getattr(prior, "backend", "no network")
    return f"{platform.machine()}, torch {torch.__version__}, {backend}, range coder {coder_name()}"


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "encode":
        encode(Path(sys.argv[2]), *sys.argv[3:])
    elif len(sys.argv) >= 3 and sys.argv[1] == "decode":
        results = [decode(Path(sys.argv[2]), name) for name in sys.argv[3:] or [None]]
        sys.exit(not all(results))
    else:
        sys.exit(__doc__)
