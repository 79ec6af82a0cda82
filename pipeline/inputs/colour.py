"""Any Pillow mode to 8-bit sRGB or grey: depth, ICC, CMYK and Lab, alpha."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

BACKGROUND = (255, 255, 255)
_GREY = {"1", "L", "LA", "La", "I", "F"}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# The channels that a profile of each colour space describes.
_SPACE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}


def to_8_bit_srgb(image: Image.Image, bit_depth: int = 8) -> tuple[Image.Image, str]:
    """A loaded image as mode L or RGB, and what became of its ICC profile: "", "applied" or "ignored"."""
    profile = image.info.get("icc_profile")
    image = _scaled(image, bit_depth)
    grey = image.mode in _GREY
    opaque, alpha = _without_alpha(image)
    opaque, icc = _managed(opaque, profile)
    opaque = opaque.convert("L" if grey else "RGB")
    if alpha is not None:
        paper = Image.new(opaque.mode, opaque.size, BACKGROUND[0] if grey else BACKGROUND)
        opaque = Image.composite(opaque, paper, alpha)
    return opaque, icc


def _scaled(image: Image.Image, bit_depth: int) -> Image.Image:
    """Deep modes to L: integers by the range of their depth, floats in [0, 1] by 255."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        top = 2 ** (bit_depth if 8 < bit_depth <= 16 else 16) - 1
        # 32-bit samples are 16-bit ones in a wider type, unless they are larger.
        if values.max(initial=0) > top:
            top = 65535 if values.max() <= 65535 else 2**31 - 1
        return Image.fromarray(((values.clip(0, top) * 255 + top // 2) // top).astype(np.uint8))
    if image.mode == "F":
        reals = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        reals = reals * 255 if reals.max(initial=0.0) <= 1.0 else reals
        return Image.fromarray(np.rint(reals.clip(0, 255)).astype(np.uint8))
    return image


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours alone, and the alpha channel if there is one that hides anything."""
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode == "PA" or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    elif "transparency" in image.info and image.mode in ("1", "L", "RGB"):
        image = image.convert("LA" if image.mode != "RGB" else "RGBA")
    if image.mode == "P":
        return image.convert("RGB"), None
    if image.mode not in ("RGBA", "LA"):
        return image, None
    alpha = image.getchannel("A")
    opaque = image.convert("RGB" if image.mode == "RGBA" else "L")
    return opaque, None if alpha.getextrema() == (255, 255) else alpha


def _managed(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """Through the ICC profile to sRGB; Lab needs no embedded profile."""
    if image.mode == "LAB" and not profile:
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, _SRGB, outputMode="RGB") or image, ""
    if not profile:
        return image, ""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode != _SPACE_MODES.get(source.profile.xcolor_space):
            return image, "ignored"
        if (source.profile.profile_description or "").startswith("sRGB"):
            return image, "applied"
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, "ignored"
    return (image, "ignored") if converted is None else (converted, "applied")
