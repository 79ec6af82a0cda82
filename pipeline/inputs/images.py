"""Untrusted bytes in, an array and its facts out, or a typed error. The header is read and judged before
any pixel.

What is done to every image, in this order:

- the first frame of an animation, the first page of a document;
- more than 8 bits a sample are scaled to 8 by their full range, never clipped; floats in [0, 1] by 255;
- colours through an embedded ICC profile to sRGB, CMYK and Lab included; a broken profile is ignored, and
said to be;
- alpha is composited over white;
- the EXIF orientation is applied;
- grey stays one channel; palettes become colour;
- with ``size``, the image is reduced (Lanczos) until its longer side is at most that, and never enlarged.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.errors import (
    BrokenImage,
    EmptyInput,
    TooManyBytes,
    TooManyPixels,
    TruncatedImage,
    UnknownFormat,
)
from pipeline.inputs.colour import to_8_bit_srgb

POLICY = 1
"""Goes into the fingerprint: raise it when the same bytes would give another array."""
MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 1024 * 1024
# They run or expect other programs.
_REFUSED_FORMATS = {"EPS", "WMF", "FPX", "MIC"}
_MAGIC = {
    b"\xff\xd8": "a JPEG",
    b"\x89PNG\r\n\x1a\n": "a PNG",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000",
}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Facts:
    """What the source image was. Sizes are in pixels before orientation; ``icc`` is "", "applied" or
    "ignored".
    """

    sha256: str
    source_bytes: int
    format: str = ""
    mode: str = ""
    bit_depth: int = 8
    source_width: int = 0
    source_height: int = 0
    frames: int = 1
    orientation: int = 1
    alpha: bool = False
    icc: str = ""
    icc_sha256: str = ""

    def columns(self) -> dict[str, Any]:
        return asdict(self)


class Rejected(Exception):
    """Carries the typed error together with the facts that were known by then."""

    def __init__(self, error: Exception, facts: Facts) -> None:
        super().__init__(str(error))
        self.error = error
        self.facts = facts


def read_image(
    data: bytes,
    *,
    size: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    room: Callable[[int], AbstractContextManager[None]] | None = None,
) -> tuple[np.ndarray, Facts]:
    """Decode ``data`` to uint8 (H, W, C), C = 1 or 3.

    room: waits until so many bytes may be taken, and holds them while the image is decoded.

    Raises:
        Rejected: its ``error`` is an :class:`~pipeline.errors.InputError`.
    """
    facts = Facts(hashlib.sha256(data).hexdigest(), len(data))
    try:
        image, facts = _open(data, facts, max_pixels, max_bytes)
        # As it is stored, and as it is turned, scaled or composited.
        with room(2 * 4 * image.width * image.height) if room else nullcontext():
            return _pixels(image, facts, size)
    except Rejected:
        raise
    except Image.DecompressionBombError as error:
        raise Rejected(TooManyPixels(f"{error}; {_cap(max_pixels)}"), facts) from None
    except MemoryError:
        raise Rejected(BrokenImage("decoding it takes more memory than there is"), facts) from None
    # Pillow's readers raise almost any class on hostile bytes, and one input must not end the job.
    except Exception as error:
        raise Rejected(_typed(error), facts) from None


def quiet_pillow() -> None:
    """For a process that reads archives: no warning for every odd tag, or below our own pixel cap."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _open(data: bytes, facts: Facts, max_pixels: int, max_bytes: int) -> tuple[Image.Image, Facts]:
    # Pillow has a cap of its own, of twice this.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    if not data:
        raise Rejected(EmptyInput("the file has no bytes"), facts)
    if len(data) > max_bytes:
        raise Rejected(TooManyBytes(f"{len(data)} bytes; the cap is {max_bytes}"), facts)
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        raise Rejected(_unidentified(data), facts) from None
    facts = _header_facts(image, facts)
    if image.width * image.height > max_pixels:
        declared = f"the header declares {image.width}x{image.height} pixels"
        raise Rejected(TooManyPixels(f"{declared}; {_cap(max_pixels)}"), facts)
    return image, facts


def _cap(max_pixels: int) -> str:
    return f"the cap is {max_pixels}; compress with a higher --max-pixels to have it"


def _pixels(image: Image.Image, facts: Facts, size: int | None) -> tuple[np.ndarray, Facts]:
    image.load()
    # Some readers turn the image themselves while loading; what is left to do is what the image still says.
    turn = _TURNS.get(_orientation(image))
    plain, icc = to_8_bit_srgb(image, facts.bit_depth)
    if turn is not None:
        plain = plain.transpose(turn)
    if size is not None and max(plain.size) > size:
        plain = plain.resize(_reduced(plain.size, size), Image.Resampling.LANCZOS)
    array = np.asarray(plain)
    facts = replace(facts, icc=icc)
    return np.ascontiguousarray(array[:, :, None] if array.ndim == 2 else array), facts


def _header_facts(image: Image.Image, facts: Facts) -> Facts:
    profile = image.info.get("icc_profile") or b""
    orientation = _orientation(image)
    stored = image.size
    # Of a TIFF, Pillow gives the size that it will have when turned.
    if image.format == "TIFF" and orientation >= 5:
        stored = stored[::-1]
    return replace(
        facts,
        format=image.format or "",
        mode=image.mode,
        bit_depth=_bit_depth(image),
        source_width=stored[0],
        source_height=stored[1],
        frames=_frames(image),
        orientation=orientation,
        alpha="A" in image.mode or "a" in image.mode or "transparency" in image.info,
        icc_sha256=hashlib.sha256(profile).hexdigest() if isinstance(profile, bytes) and profile else "",
    )


def _orientation(image: Image.Image) -> int:
    try:
        value = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # hostile EXIF raises anything
        return 1
    return value if value in _TURNS else 1


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:
        return 1


def _bit_depth(image: Image.Image) -> int:
    """Bits a sample in the file, as far as Pillow tells."""
    if image.mode.startswith("I;16"):
        depth = 16
    elif image.mode in ("I", "F"):
        depth = 32
    else:
        depth = 1 if image.mode == "1" else 8
    tags = getattr(image, "tag_v2", None)
    try:
        if tags is not None:
            return int(max(tags.get(258, (depth,))))
        tile = getattr(image, "tile", None)
        if image.format == "PNG" and tile:
            return 16 if "16" in str(tile[0][3]) else depth
    except (TypeError, ValueError, IndexError):
        pass
    return depth


def _reduced(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _formats() -> list[str]:
    _register_optional()
    Image.init()
    return [name for name in Image.OPEN if name not in _REFUSED_FORMATS]


def _register_optional() -> None:
    """HEIF and JPEG XL, where their packages are installed."""
    if "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    if "JXL" not in Image.OPEN:
        with suppress(ImportError):
            import pillow_jxl  # noqa: F401


def _unidentified(data: bytes) -> Exception:
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return BrokenImage(f"it begins like {name}, but its header cannot be read")
    return UnknownFormat(f"no image format that is read here begins with {data[:8]!r}")


def _typed(error: Exception) -> Exception:
    said = f"{type(error).__name__}: {error}".strip().rstrip(":")
    if isinstance(error, EOFError) or "truncated" in said.lower() or "incomplete" in said.lower():
        return TruncatedImage(said)
    return BrokenImage(said)
