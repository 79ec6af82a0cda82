"""Cells of the exactness matrix that share a process: encode, decode, hash. Prints one JSON line a cell.

Usage: python -m jobs.bench.exact_cell < REQUEST, a JSON object with prior, profile, overrides, side, streams (hex, by
arithmetic: to be decoded instead of a cell's own) and cells: objects with arithmetic, asked (a backend) and batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

import numpy as np
from PIL import Image

PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket", "camera", "coins", "moon")


def run(cell: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Hashes of the stream, of its state hashes, of the decoded pixels and of an attention network; seconds."""
    import torch

    import psc_core
    from psc_core.exact.backends import VARIABLE, get_backend

    get_backend.cache_clear()
    os.environ[VARIABLE] = cell["asked"]
    if cell["arithmetic"] == "float":
        del os.environ[VARIABLE]
    prior = psc_core.load_prior(request["prior"], arithmetic=cell["arithmetic"], device="cpu")
    profile = psc_core.get_profile(request["profile"], **request["overrides"])
    photographs = [_photograph(name, request["side"]) for name in PHOTOGRAPHS[: cell["batch"]]]
    started = time.perf_counter()
    stream = psc_core.encode_batch(photographs, prior, profile)[0]
    encoded = time.perf_counter()
    found: dict[str, Any] = {"backend": getattr(prior, "backend", "none"), "torch": torch.__version__}
    found |= {"bytes": _hash(b"".join(t.data for t in stream.tiers)), "stream": stream.to_bytes().hex()}
    found["states"] = _hash(repr([[c.state for c in t.chunks] for t in stream.tiers]).encode())
    theirs = psc_core.Stream.from_bytes(bytes.fromhex(request["streams"].get(cell["arithmetic"]) or found["stream"]))
    resumed = time.perf_counter()
    try:
        found["pixels"] = _hash(psc_core.decode(theirs, prior).tobytes())
    except psc_core.PscError as error:
        found["pixels"] = f"{error.code}"
    seconds = {"seconds_encode": encoded - started, "seconds_decode": time.perf_counter() - resumed}
    return found | seconds | {"attention": _hash(_attention(cell["arithmetic"], cell["batch"]))}


def _photograph(name: str, side: int) -> np.ndarray:
    import skimage.data

    return np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize((side, side)))


def _attention(arithmetic: str, batch: int) -> bytes:
    """The first output of a small Stable Diffusion UNet with stored-noise weights, in a batch."""
    import torch

    from psc_core.exact.noise import NoiseKey, normal
    from psc_core.exact.unet import ExactUNet

    model = _stable_diffusion_unet()
    x = normal(NoiseKey(1, 0, 0, 0, 0), range(batch), (16, 16, 4))
    text = normal(NoiseKey(1, 1, 0, 0, 0), range(batch), (1, 77, 48)) * 3.0
    if arithmetic == "exact":
        net = ExactUNet(model)
        return net(x, net.embed(501.0), text)[0].numpy().tobytes()
    with torch.no_grad():
        return model(x.permute(0, 3, 1, 2), torch.full((batch,), 501.0), text[:, 0]).sample[0].numpy().tobytes()


def _stable_diffusion_unet() -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    from psc_core.exact.noise import NoiseKey, normal

    model: Any = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=48, attention_head_dim=8, norm_num_groups=8,
    )  # fmt: skip
    for place, (name, parameter) in enumerate(sorted(model.named_parameters())):
        drawn = normal(NoiseKey(2, place, 0, 0, 0), range(1), tuple(parameter.shape))[0]
        scale = 0.5 / float(np.sqrt(parameter[0].numel())) if parameter.ndim > 1 else 0.1
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = torch.full_like(drawn, centre) + drawn * scale
    return model.eval().requires_grad_(False)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def main() -> None:
    from psc_core.errors import PscError

    request = json.load(sys.stdin)
    for cell in request["cells"]:
        try:
            found = run(cell, request)
        except PscError as error:
            found = {"error": str(error), "refused": "known-answer" in str(error)}
        request["streams"].setdefault(cell["arithmetic"], found.get("stream"))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
