"""Rate and distortion of uint8 images, in numpy alone: bits a pixel, PSNR, SSIM, MS-SSIM.

Images are (H, W) or (H, W, C); colour is compared channel by channel, in RGB as given.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

PEAK = 255.0
SSIM_SIDE = 11
"""Pixels of the Gaussian window's side, and the smallest side of an image that SSIM is defined for."""
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SIDE = SSIM_SIDE << (len(MS_SSIM_WEIGHTS) - 1)
"""Smallest side that MS-SSIM is defined for: the window must fit the image halved four times."""
_SIGMA = 1.5
_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


class Distortion(NamedTuple):
    """PSNR in dB (infinite for equal images), SSIM and MS-SSIM; None where the image is too small for them."""

    psnr: float
    ssim: float | None
    ms_ssim: float | None


def bpp(nbytes: int, height: int, width: int) -> float:
    """Bits a pixel of ``nbytes`` bytes."""
    return 8 * nbytes / (height * width)


def distortion(reference: np.ndarray, decoded: np.ndarray) -> Distortion:
    """All three at the cost of the last. Raises ValueError for images of different shapes or not of uint8."""
    x_CHW, y_CHW = _pair(reference, decoded)
    side = min(x_CHW.shape[1:])
    scales = len(MS_SSIM_WEIGHTS) if side >= MS_SSIM_SIDE else int(side >= SSIM_SIDE)
    levels = _levels(x_CHW, y_CHW, scales)
    return Distortion(
        psnr(reference, decoded),
        levels[0][0] if levels else None,
        _combined(levels) if scales > 1 else None,
    )


def psnr(reference: np.ndarray, decoded: np.ndarray) -> float:
    """10 log10(255² / mean squared error over all pixels and channels), dB."""
    x, y = _pair(reference, decoded)
    error = float(np.mean((x - y) ** 2))
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def ssim(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004): 11x11 Gaussian window of σ = 1.5, mean over the channels.

    Raises:
        ValueError: a side under ``SSIM_SIDE`` pixels.
    """
    x, y = _pair(reference, decoded)
    _at_least(x, SSIM_SIDE, "SSIM")
    return _levels(x, y, 1)[0][0]


def ms_ssim(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang et al. 2003), five scales; a negative factor counts as 0.

    Raises:
        ValueError: a side under ``MS_SSIM_SIDE`` pixels.
    """
    x, y = _pair(reference, decoded)
    _at_least(x, MS_SSIM_SIDE, "MS-SSIM")
    return _combined(_levels(x, y, len(MS_SSIM_WEIGHTS)))


def _combined(levels: list[tuple[float, float]]) -> float:
    """Contrast and structure of every scale but the last, which brings luminance too."""
    factors = [contrast for _, contrast in levels[:-1]] + [levels[-1][0]]
    return math.prod(max(f, 0.0) ** w for f, w in zip(factors, MS_SSIM_WEIGHTS, strict=True))


def _levels(x_CHW: np.ndarray, y_CHW: np.ndarray, scales: int) -> list[tuple[float, float]]:
    """(SSIM, contrast-structure term) of each scale, the full one first."""
    out = []
    for scale in range(scales):
        if scale:
            x_CHW, y_CHW = _halved(x_CHW), _halved(y_CHW)
        out.append(_similarity(x_CHW, y_CHW))
    return out


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = _blurred(x * x) - mean_x**2
    var_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    contrast = (2 * covariance + _C2) / (var_x + var_y + _C2)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return float(np.mean(luminance * contrast)), float(np.mean(contrast))


def _blurred(x_CHW: np.ndarray) -> np.ndarray:
    """Gaussian window where it fits whole: (C, H - 10, W - 10)."""
    channels, height, width = x_CHW.shape
    rows = np.zeros((channels, height - SSIM_SIDE + 1, width))
    for k, weight in enumerate(_window()):
        rows += weight * x_CHW[:, k : k + rows.shape[1]]
    out = np.zeros((channels, rows.shape[1], width - SSIM_SIDE + 1))
    for k, weight in enumerate(_window()):
        out += weight * rows[:, :, k : k + out.shape[2]]
    return out


@cache
def _window() -> tuple[float, ...]:
    taps = np.exp(-0.5 * ((np.arange(SSIM_SIDE) - SSIM_SIDE // 2) / _SIGMA) ** 2)
    return tuple(float(t) for t in taps / taps.sum())


def _halved(x_CHW: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; an odd last row or column is left out."""
    c, h, w = x_CHW.shape
    return x_CHW[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).mean(axis=(2, 4))


def _pair(reference: np.ndarray, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = _channels_first(reference), _channels_first(decoded)
    if x.shape != y.shape:
        raise ValueError(f"images of shapes {np.shape(reference)} and {np.shape(decoded)}: expected equal ones")
    return x, y


def _channels_first(image: np.ndarray) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise ValueError(f"an array of {array.dtype} {array.shape}: expected uint8 (H, W) or (H, W, C)")
    return np.moveaxis(np.atleast_3d(array), 2, 0).astype(np.float64)


def _at_least(x_CHW: np.ndarray, side: int, what: str) -> None:
    if min(x_CHW.shape[1:]) < side:
        size = f"{x_CHW.shape[2]}x{x_CHW.shape[1]}"
        raise ValueError(f"{what} of {size} pixels: both sides must have at least {side}")
