"""One cell of the exactness matrix, in a process of its own: encode, decode, hash. Prints one JSON line.

Usage: python -m jobs.bench.exact_cell REQUEST, a JSON object with arithmetic, prior, profile, overrides, batch, side
and, to decode a stream from elsewhere, "stream" in hex.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
from PIL import Image


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Hashes of the stream, of its state hashes and of the decoded pixels; seconds; the backend that ran."""
    import skimage.data

    import psc_core

    prior = psc_core.load_prior(request["prior"], arithmetic=request["arithmetic"], device=request.get("device", "cpu"))
    profile = psc_core.get_profile(request["profile"], **request["overrides"])
    side = request["side"]
    names = ("coffee", "astronaut", "chelsea", "rocket", "camera", "coins", "moon")[: request["batch"]]
    photographs = [Image.fromarray(getattr(skimage.data, n)()).convert("RGB").resize((side, side)) for n in names]
    started = time.perf_counter()
    stream = psc_core.encode_batch([np.asarray(p) for p in photographs], prior, profile)[0]
    encoded = time.perf_counter()
    found: dict[str, Any] = {"backend": getattr(prior, "backend", "none"), "seconds_encode": encoded - started}
    found |= {"bytes": _hash(b"".join(t.data for t in stream.tiers)), "stream": stream.to_bytes().hex()}
    found["states"] = _hash(repr([[c.state for c in t.chunks] for t in stream.tiers]).encode())
    theirs = psc_core.Stream.from_bytes(bytes.fromhex(request.get("stream") or found["stream"]))
    started = time.perf_counter()
    try:
        found["pixels"] = _hash(psc_core.decode(theirs, prior).tobytes())
    except psc_core.PscError as error:
        found["pixels"] = f"{error.code}"
    return found | {"seconds_decode": time.perf_counter() - started}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    print(json.dumps(run(json.loads(sys.argv[1]))))
