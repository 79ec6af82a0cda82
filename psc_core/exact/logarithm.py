"""The natural logarithm of arrays, the same on every machine: a stored table and elementwise operations."""

from __future__ import annotations

from functools import cache

import numpy as np

from psc_core.exact import transcendental

_STEPS = 1024


def ln(x: np.ndarray) -> np.ndarray:
    """ln of positive float64, within 2.5e-7: linear between 1,024 values of the mantissa."""
    mantissa, exponent = np.frexp(x)
    place = (mantissa * 2.0 - 1.0) * _STEPS
    index = np.floor(place).astype(np.int64)
    table = _table()
    low, high = table[index], table[index + 1]
    return low + (place - index) * (high - low) + (exponent.astype(np.float64) - 1.0) * transcendental.ln(2.0)


@cache
def _table() -> np.ndarray:
    """ln(1 + i / 1024) for i = 0, ..., 1024."""
    return np.array([transcendental.ln(1.0 + i / _STEPS) for i in range(_STEPS + 1)])
