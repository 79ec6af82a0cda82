"""Distortion between 8-bit images (H, W, C), without torch."""

from __future__ import annotations

import numpy as np

_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / error)) if error else float("inf")


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5), mean over channels and places.

    Images with a side below 11 pixels have no window: not a number.
    """
    if min(a.shape[:2]) < 11:
        return float("nan")
    return float(np.mean([_ssim_map(x, y)[0] for x, y in _planes(a, b)]))


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-scale SSIM (Wang et al. 2003), five scales; not a number below 176 pixels a side."""
    if min(a.shape[:2]) < 176:
        return float("nan")
    return float(np.mean([_multi_scale(x, y) for x, y in _planes(a, b)]))


def _planes(a: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(a[:, :, c].astype(np.float64), b[:, :, c].astype(np.float64)) for c in range(a.shape[2])]


def _multi_scale(x: np.ndarray, y: np.ndarray) -> float:
    result = 1.0
    for level, weight in enumerate(_SCALES):
        whole, contrast = _ssim_map(x, y)
        result *= max(whole if level == len(_SCALES) - 1 else contrast, 0.0) ** weight
        x, y = _halve(x), _halve(y)
    return result


def _ssim_map(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean SSIM, and mean of its contrast-structure factor."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _blur(x), _blur(y)
    vx, vy, vxy = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    contrast = (2 * vxy + c2) / (vx + vy + c2)
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return float((luminance * contrast).mean()), float(contrast.mean())


def _blur(x: np.ndarray) -> np.ndarray:
    """Valid part of a separable 11-tap Gaussian filter."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(x, 11, axis=axis)
        x = windows @ taps
    return x


def _halve(x: np.ndarray) -> np.ndarray:
    h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3))
