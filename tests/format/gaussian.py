"""Section 7.3: the analytic prior."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from tests.format.arithmetic import colour, dct, power

MULTIPLE, SIGMA_MIN, SIGMA_MAX = 1, 0.002, 200.0
FINE, UNIT = 2.0**-20, 2.0**-14


def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
    """D(x, sigma) of (C, H, W)."""
    spectrum = _spectrum(*x.shape[1:])
    rows, columns, mix = (np.rint(m * 2.0**20) for m in (dct(x.shape[1]), dct(x.shape[2]), colour()))
    z = np.einsum("kc,chw->khw", mix, _wide(x)) * FINE
    z = np.matmul(rows, _wide(z * UNIT)) * FINE
    z = np.matmul(_wide(z * UNIT), columns.T) * (FINE * UNIT)
    z = z * (spectrum / (spectrum + sigma * sigma))
    y = np.matmul(rows.T, _wide(z)) * FINE
    y = np.matmul(_wide(y * UNIT), columns) * FINE
    return (np.einsum("kc,khw->chw", mix, _wide(y * UNIT)) * (FINE * UNIT)).astype(np.float32)


def _wide(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x.astype(np.float64) * 2.0**14), -(2.0**24), 2.0**24)


@cache
def _spectrum(height: int, width: int) -> np.ndarray:
    rows, columns = (np.array([k / (2 * n) for k in range(n)]) for n in (height, width))
    ratio = ((rows * rows)[:, None] + (columns * columns)[None, :]) / (0.02 * 0.02)
    shape = np.array([power(1.0 + v, -1.5) for v in ratio.reshape(-1).tolist()]).reshape(height, width)
    raw = np.array([1.0, 0.3 * 0.3, 0.3 * 0.3])[:, None, None] * shape
    return raw * (3 * height * width * (0.5 * 0.5) / math.fsum(raw.reshape(-1).tolist()))
