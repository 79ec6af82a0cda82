"""The codecs that photographs are kept in today, each as well as it can be asked for PSNR through Pillow.

JPEG: optimized Huffman tables, baseline or progressive, whichever is smaller. JPEG 2000: the irreversible transform,
colour decorrelated (Pillow's default is not), a bare codestream. WebP: the slowest method. AVIF: libaom tuned for
PSNR, speed 2. HEIC: HEVC intra by x265 tuned for PSNR, slowest preset; it is the coding that BPG uses. All but JPEG
2000 halve the chroma's resolution, as they do by default.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from jobs.bench.curves import Point
from jobs.bench.distortion import Judge
from jobs.bench.meter import Cost, Meter

Encode = Callable[[Image.Image, float], bytes]


class ReferenceCodec(NamedTuple):
    """An encoder, its settings from low to high rate, and what it is, for the record."""

    encode: Encode
    settings: tuple[float, ...]
    about: dict[str, Any]


def _pillow(form: str, settings: Sequence[float], **options: Any) -> ReferenceCodec:
    def encode(image: Image.Image, quality: float) -> bytes:
        return _saved(image, form, quality=int(quality), **options)

    return ReferenceCodec(encode, tuple(settings), {"quality": list(settings), **options})


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _jpeg(image: Image.Image, quality: float) -> bytes:
    forms = (_saved(image, "JPEG", quality=int(quality), optimize=True, progressive=p) for p in (False, True))
    return min(forms, key=len)


def _jpeg2000(image: Image.Image, bpp: float) -> bytes:
    bands = len(image.getbands())
    options = {"irreversible": True, "no_jp2": True, "mct": int(bands == 3)}
    return _saved(image, "JPEG2000", quality_mode="rates", quality_layers=[8 * bands / bpp], **options)


def _heic(image: Image.Image, quality: float) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return _saved(image, "HEIF", quality=int(quality), chroma=420, enc_params=_X265)


_X265 = {"preset": "veryslow", "tune": "psnr"}
_JPEG_QUALITIES = (1, 3, 5, 7, 10, 14, 20, 30, 45, 60, 75, 88)
_JPEG2000_BPP = (0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5)
_HEIC_QUALITIES = (0, 4, 8, 12, 16, 21, 27, 34, 42)
CODECS: dict[str, ReferenceCodec] = {
    "jpeg": ReferenceCodec(
        _jpeg, _JPEG_QUALITIES, {"quality": list(_JPEG_QUALITIES), "optimize": True, "progressive": "if smaller"}
    ),
    "jpeg2000": ReferenceCodec(
        _jpeg2000, _JPEG2000_BPP, {"bpp": list(_JPEG2000_BPP), "irreversible": True, "mct": True, "codestream": True}
    ),
    "webp": _pillow("WEBP", (0, 2, 5, 10, 20, 33, 48, 65, 80), method=6),
    "avif": _pillow("AVIF", (0, 5, 10, 16, 23, 31, 40, 50), speed=2, codec="aom", advanced={"tune": "psnr"}),
    "heic": ReferenceCodec(_heic, _HEIC_QUALITIES, {"quality": list(_HEIC_QUALITIES), "chroma": 420, "x265": _X265}),
}
"""By the name that ``--codecs`` takes."""


def missing(name: str) -> str | None:
    """Why the codec cannot be measured here, or None."""
    if name == "heic":
        try:
            import pillow_heif  # noqa: F401
        except ImportError:
            return 'pillow-heif is not installed: pip install "psc-archive[bench]"'
        return None
    feature = {"jpeg": "jpg", "jpeg2000": "jpg_2000"}.get(name, name)
    return None if features.check(feature) else f"this Pillow was built without {name}"


def about(name: str) -> dict[str, Any]:
    """Settings and library, as they enter the record and the checkpoint's key."""
    import PIL

    feature = {"jpeg": "jpg", "jpeg2000": "jpg_2000"}.get(name, name)
    library = f"Pillow {PIL.__version__} {name} {features.version(feature)}"
    if name == "heic":
        import pillow_heif

        info = pillow_heif.libheif_info()
        library = f"pillow-heif {pillow_heif.__version__} libheif {info['libheif']} {info['encoders'].get('x265', '')}"
    return {"codec": name, "library": library, **CODECS[name].about}


def measure(name: str, image: np.ndarray, judge: Judge) -> list[Point]:
    """A point a setting for one image, uint8 (H, W, 1) or (H, W, 3)."""
    codec = CODECS[name]
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    points = []
    for setting in codec.settings:
        with Meter() as encoding:
            data = codec.encode(picture, setting)
        with Meter() as decoding:
            decoded = decode(data, picture.mode)
        point = {"setting": setting, **judge.rate_and_distortion(len(data), image, decoded)}
        if (payload := coded_bytes(data)) is not None:
            point["bytes_coded"] = payload
        points.append(point | costs(encoding, decoding))
    return points


def costs(encoding: Cost, decoding: Cost) -> Point:
    """What both calls took."""
    return {
        "seconds_encode": encoding.seconds,
        "seconds_decode": decoding.seconds,
        "memory_mb_encode": encoding.memory_mb,
        "memory_mb_decode": decoding.memory_mb,
    }


def decode(data: bytes, mode: str) -> np.ndarray:
    """uint8 (H, W, 1) for mode L, (H, W, 3) for RGB."""
    array = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    return array[:, :, None] if array.ndim == 2 else array


def coded_bytes(data: bytes) -> int | None:
    """Of an AVIF or HEIC file, the bytes that are not container: those of its ``mdat`` boxes. None for others."""
    if data[4:8] != b"ftyp":
        return None
    found = place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big") or len(data) - place
        found += size - 8 if data[place + 4 : place + 8] == b"mdat" else 0
        place += max(size, 8)
    return found
