"""Rate-distortion curves: means over images, and Bjøntegaard's difference of rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def mean_curve(points: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Points of many images at the same settings -> one point a setting, every number averaged."""
    settings = sorted({p["setting"] for p in points})
    out = []
    for setting in settings:
        same = [p for p in points if p["setting"] == setting]
        keys = [k for k, v in same[0].items() if isinstance(v, int | float) and k != "setting"]
        out.append({"setting": setting, **{k: float(np.mean([p[k] for p in same])) for k in keys}})
    return sorted(out, key=lambda p: p["bpp"])


def bd_rate(anchor: Sequence[dict[str, float]], test: Sequence[dict[str, float]]) -> float | None:
    """Mean difference of rate in percent at equal PSNR (Bjøntegaard, VCEG-M33), negative if ``test`` needs less.

    log-rate over PSNR is interpolated by monotone cubics (PCHIP) and compared where both curves are; None if nowhere.
    """
    (qa, ra), (qt, rt) = _ascending(anchor), _ascending(test)
    if min(len(qa), len(qt)) < 2:
        return None
    low, high = max(qa[0], qt[0]), min(qa[-1], qt[-1])
    if high <= low:
        return None
    at = np.linspace(low, high, 1001)
    difference = pchip(qt, rt, at) - pchip(qa, ra, at)
    return float(100 * (np.exp(np.mean(difference)) - 1))


def pchip(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone piecewise-cubic Hermite interpolation (Fritsch & Carlson 1980)."""
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    d = np.empty_like(y)
    d[0], d[-1] = slope[0], slope[-1]
    for k in range(1, len(x) - 1):
        if slope[k - 1] * slope[k] <= 0:
            d[k] = 0.0
            continue
        w1, w2 = 2 * h[k] + h[k - 1], h[k] + 2 * h[k - 1]
        d[k] = (w1 + w2) / (w1 / slope[k - 1] + w2 / slope[k])
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    t = (at - x[i]) / h[i]
    return (
        y[i] * (1 + 2 * t) * (1 - t) ** 2
        + d[i] * h[i] * t * (1 - t) ** 2
        + y[i + 1] * t * t * (3 - 2 * t)
        + d[i + 1] * h[i] * t * t * (t - 1)
    )


def _ascending(curve: Sequence[dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """PSNR and log-rate of the points at which PSNR rises with the rate."""
    quality: list[float] = []
    rate: list[float] = []
    for point in sorted(curve, key=lambda p: p["bpp"]):
        if np.isfinite(point["psnr"]) and (not quality or point["psnr"] > quality[-1]):
            quality.append(point["psnr"])
            rate.append(float(np.log(point["bpp"])))
    return np.array(quality), np.array(rate)
