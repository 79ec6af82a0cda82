"""The codecs that photographs are kept in today, at settings from small to large."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

Encode = Callable[[Image.Image, float], bytes]


def _pillow(form: str, **options: Any) -> Encode:
    def encode(image: Image.Image, quality: float) -> bytes:
        out = io.BytesIO()
        image.save(out, form, quality=int(quality), **options)
        return out.getvalue()

    return encode


def _jpeg2000(image: Image.Image, ratio: float) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True)
    return out.getvalue()


def _heic(image: Image.Image, quality: float) -> bytes:
    import pillow_heif

    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=int(quality), chroma=420)
    return out.getvalue()


CODECS: dict[str, tuple[Encode, tuple[float, ...]]] = {
    "jpeg": (_pillow("JPEG", optimize=True), (1, 3, 6, 10, 18, 30, 50, 75, 90)),
    "jpeg2000": (_jpeg2000, (400, 250, 160, 100, 60, 40, 25, 16, 10)),
    "webp": (_pillow("WEBP", method=6), (0, 5, 12, 25, 45, 65, 80, 90)),
    "avif": (_pillow("AVIF", speed=4), (3, 8, 15, 25, 38, 50, 65, 80)),
    "heic": (_heic, (3, 8, 15, 25, 35, 50, 65, 80)),
}
"""Name -> (encoder, settings in order of rate). HEIC is HEVC intra by x265: the coding that BPG uses."""


def decode(data: bytes, codec: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if codec == "heic":
        import pillow_heif

        return np.asarray(pillow_heif.open_heif(io.BytesIO(data)).to_pillow().convert("RGB"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
