"""Noise levels of a sampler (Karras et al. 2022, eq. 5), by operations that are the same on every machine."""

from __future__ import annotations

from functools import cache

_RHO = 7


@cache
def karras(steps: int, sigma_max: float, sigma_min: float) -> tuple[float, ...]:
    """``steps`` falling noise levels from sigma_max to sigma_min, equally spaced in sigma^(1/7)."""
    if steps == 1:
        return (sigma_max,)
    high, low = _root(sigma_max), _root(sigma_min)
    return tuple(_seventh(high + i / (steps - 1) * (low - high)) for i in range(steps))


def _seventh(x: float) -> float:
    square = x * x
    return square * square * square * x


def _root(value: float) -> float:
    """value^(1/7) by 60 Newton steps: + - x / alone, so no libm enters the bytes."""
    x = max(value, 1.0)
    for _ in range(60):
        square = x * x
        x = x - (x - value / (square * square * square)) / _RHO
    return x
