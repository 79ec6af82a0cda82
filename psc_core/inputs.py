"""What a caller of the codec gives, as the codec takes it, or the typed error that says what was expected.

Scalars of numpy and pandas are taken like Python's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from psc_core.coding.condition import Condition, checked
from psc_core.coding.header import MAX_SIDE
from psc_core.errors import InvalidCondition, InvalidImage, InvalidProfile


def checked_image(image: np.ndarray) -> np.ndarray:
    """(H, W, C) with C = 1 or 3, or :class:`InvalidImage`."""
    try:
        array = np.asarray(image)
    except (ValueError, TypeError) as error:
        raise InvalidImage(f"{type(image).__name__} is no array of pixels: {error}") from None
    given = f"an array of {array.dtype} {array.shape}"
    if array.dtype != np.uint8:
        raise InvalidImage(f"{given}: expected uint8 (scale other depths first)")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise InvalidImage(f"{given}: expected (H, W), (H, W, 1) or (H, W, 3)")
    if not all(0 < side <= MAX_SIDE for side in array.shape[:2]):
        raise InvalidImage(f"{given}: both sides must be between 1 and {MAX_SIDE} pixels")
    return array


def checked_conditions(conditions: Iterable[Condition] | None, images: int) -> list[Condition]:
    """One an image, or :class:`InvalidCondition`."""
    if conditions is None:
        return [None] * images
    if isinstance(conditions, str | bytes) or not isinstance(conditions, Iterable):
        raise InvalidCondition(f"conditions={conditions!r}: expected one an image, as a list")
    given = [checked(condition) for condition in conditions]
    if len(given) != images:
        raise InvalidCondition(f"{len(given)} conditions for {images} images: expected one each, None for none")
    return given


def checked_seed(seed: Any) -> int:
    """A seed that a stream can hold, or :class:`InvalidProfile`."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise InvalidProfile(f"seed={seed!r}: expected a whole number from 0 to 2^63 - 1")
    return int(seed)


def checked_rate(max_bpp: Any) -> float | None:
    """A rate in bits a pixel, or :class:`InvalidProfile`."""
    if max_bpp is None:
        return None
    rate = _number(max_bpp)
    if not 0 < rate < math.inf:
        raise InvalidProfile(f"max_bpp={max_bpp!r}: expected a rate above 0 bits a pixel")
    return rate


def checked_quality(target_psnr: Any) -> float | None:
    """A PSNR in dB, or :class:`InvalidProfile`."""
    if target_psnr is None:
        return None
    quality = _number(target_psnr)
    if not math.isfinite(quality):
        raise InvalidProfile(f"target_psnr={target_psnr!r}: expected a number of decibels")
    return quality


def _number(value: Any) -> float:
    """As a float; NaN for what is none."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.nan
