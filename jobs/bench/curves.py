"""Rate-distortion curves: means over images, and Bjøntegaard's difference of rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Point = dict[str, Any]
Curve = Mapping[str, Sequence[Point]]
"""Image -> its points. Each point has a ``setting``, equal over images, ``bpp`` and ``psnr`` (None where infinite)."""


class BdRate(NamedTuple):
    """Mean difference of rate in percent at equal PSNR, from which to which dB, and of how many images."""

    percent: float
    psnr_from: float
    psnr_to: float
    images: int


def mean_curve(curve: Curve, images: Iterable[str] | None = None) -> list[Point]:
    """One point a setting, by ascending rate: every number averaged over ``images``, memory at its largest.

    A setting that one of the images lacks is left out: means over different images are no curve.
    """
    chosen = [curve[name] for name in (curve if images is None else images)]
    settings: dict[Any, list[Point]] = {}
    for points in chosen:
        for point in points:
            settings.setdefault(point["setting"], []).append(point)
    out = [{"setting": s, **_mean(points)} for s, points in settings.items() if len(points) == len(chosen)]
    return sorted(out, key=lambda point: point["bpp"])


def _mean(points: Sequence[Point]) -> Point:
    out: Point = {}
    for key, first in points[0].items():
        if key == "setting" or not isinstance(first, int | float | None):
            continue
        values = [float(point[key]) for point in points if point.get(key) is not None]
        if len(values) < len(points):
            out[key] = None
        else:
            out[key] = max(values) if key.startswith("memory") else float(np.mean(values))
    return out


def compare(anchor: Curve, test: Curve, bpp: tuple[float, float] | None = None) -> BdRate | None:
    """:func:`bd_rate` of the mean curves over the images that both have; None without such."""
    common = [name for name in anchor if name in test]
    if not common:
        return None
    found = bd_rate(mean_curve(anchor, common), mean_curve(test, common), bpp)
    return None if found is None else found._replace(images=len(common))


def bd_rate(anchor: Sequence[Point], test: Sequence[Point], bpp: tuple[float, float] | None = None) -> BdRate | None:
    """Bjøntegaard's difference of rates (VCEG-M33), negative if ``test`` needs less than ``anchor``.

    log-rate over PSNR is interpolated by monotone cubics and compared where both curves are; with ``bpp``, only where
    the anchor's rate lies between the two. None if there is no such place.
    """
    (qa, ra), (qt, rt) = _ascending(anchor), _ascending(test)
    if min(len(qa), len(qt)) < 2:
        return None
    low, high = max(qa[0], qt[0]), min(qa[-1], qt[-1])
    if bpp is not None:
        ends = pchip(ra, qa, np.clip(np.log(bpp), ra[0], ra[-1]))
        low, high = max(low, ends[0]), min(high, ends[1])
    if high <= low:
        return None
    at = np.linspace(low, high, 2001)
    difference = np.trapezoid(pchip(qt, rt, at) - pchip(qa, ra, at), at) / (high - low)
    return BdRate(float(100 * math.expm1(difference)), float(low), float(high), 1)


def pchip(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone piecewise-cubic Hermite interpolation (Fritsch & Butland 1984), ``x`` ascending, at least two."""
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    d = _derivatives(h, slope)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    t = (at - x[i]) / h[i]
    return (
        y[i] * (1 + 2 * t) * (1 - t) ** 2
        + d[i] * h[i] * t * (1 - t) ** 2
        + y[i + 1] * t * t * (3 - 2 * t)
        + d[i + 1] * h[i] * t * t * (t - 1)
    )


def _derivatives(h: np.ndarray, slope: np.ndarray) -> np.ndarray:
    if len(slope) == 1:
        return np.repeat(slope, 2)
    d = np.zeros(len(slope) + 1)
    for k in range(1, len(slope)):
        if slope[k - 1] * slope[k] > 0:
            w1, w2 = 2 * h[k] + h[k - 1], h[k] + 2 * h[k - 1]
            d[k] = (w1 + w2) / (w1 / slope[k - 1] + w2 / slope[k])
    d[0] = _end(h[0], h[1], slope[0], slope[1])
    d[-1] = _end(h[-1], h[-2], slope[-1], slope[-2])
    return d


def _end(h0: float, h1: float, s0: float, s1: float) -> float:
    """Three-point derivative at an end, bounded so that the curve stays monotone."""
    d = ((2 * h0 + h1) * s0 - h0 * s1) / (h0 + h1)
    if d * s0 <= 0:
        return 0.0
    return 3 * s0 if s0 * s1 <= 0 and abs(d) > abs(3 * s0) else d


def _ascending(curve: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    """PSNR and log-rate of the points that no cheaper point equals or beats."""
    quality: list[float] = []
    rate: list[float] = []
    for point in sorted(curve, key=lambda p: (p["bpp"], -(p["psnr"] or 0.0))):
        if point["psnr"] is not None and (not quality or point["psnr"] > quality[-1]):
            quality.append(point["psnr"])
            rate.append(math.log(point["bpp"]))
    return np.array(quality), np.array(rate)
