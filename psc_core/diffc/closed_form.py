"""Rate and distortion of DiffC for Gaussian data in closed form (Theis et al. 2022, section 4).

Data has independent coefficients of variances S (any shape); noise of deviation sigma is added to each. Rates are in
bits, distortions are summed squared errors. ``ideal`` is the best that any code of shared randomness reaches whose
output is distributed as the data (perfect realism); ``shannon`` knows no such constraint.
"""

from __future__ import annotations

import numpy as np


def rate(variance: np.ndarray, sigma: float) -> float:
    """I(x; x + sigma n), what DiffC sends at least."""
    return float(np.log2(1.0 + variance / sigma**2).sum() / 2)


def denoised(variance: np.ndarray, sigma: float) -> float:
    """Distortion of E[x | x_t]: no decoder has less; not realistic."""
    return float((variance * sigma**2 / (variance + sigma**2)).sum())


def ancestral(variance: np.ndarray, sigma: float) -> float:
    """Distortion of DiffC-A, a sample of p(x | x_t): twice that of the mean."""
    return 2 * denoised(variance, sigma)


def flow(variance: np.ndarray, sigma: float) -> float:
    """Distortion of DiffC-F: the ODE scales x_t to the data's variance. Half of DiffC-A's at high rate."""
    return float((2 * variance * (1.0 - np.sqrt(variance / (variance + sigma**2)))).sum())


def ideal(variance: np.ndarray, slope: float) -> tuple[float, float]:
    """(rate, distortion) of the best realistic code, where a bit more buys 2 ln 2 x ``slope`` less distortion.

    A coefficient given R bits has distortion 2 S (1 - sqrt(1 - u)), u = 2^-2R (DiffC-F with a noise level of its own);
    equal slopes make u / sqrt(1 - u) = slope / S.
    """
    a = slope / variance
    u = (a * np.sqrt(a * a + 4.0) - a * a) / 2
    return float(-np.log2(u).sum() / 2), float((2 * variance * (1.0 - np.sqrt(1.0 - u))).sum())


def shannon(variance: np.ndarray, level: float) -> tuple[float, float]:
    """(rate, distortion) of reverse water-filling up to ``level``: the rate-distortion function."""
    least = np.minimum(variance, level)
    return float(np.log2(variance / least).sum() / 2), float(least.sum())
