"""Elias-gamma numbers: the position of the leading bit under a law of its own, then the bits below it at even odds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from psc_core.sides import Side

_EVEN = np.ones(2, dtype=np.int64)


def exchange_gamma(
    side: Side, wanted: Callable[[Tensor], list[np.ndarray]], weights: Sequence[np.ndarray], counts: Sequence[int]
) -> list[np.ndarray]:
    """Numbers from 1 (int64) of every canvas, ``counts`` of them.

    Args:
        wanted: turns the truth into the numbers, below 2^53; asked at the encoder alone, once.
        weights: of the leading bit's position from 0: one law a canvas, or one a number.
    """
    given: list[np.ndarray] = []

    def leading(truth: Tensor) -> list[np.ndarray]:
        given.extend(wanted(truth))
        return [leading_bit(n).astype(np.int32) for n in given]

    tops = [np.asarray(t, dtype=np.int64) for t in side.exchange(leading, weights, counts)]
    numbers = [np.ones(n, dtype=np.int64) for n in counts]
    for level in range(max((int(t.max()) for t in tops if len(t)), default=0)):
        deeper = [np.flatnonzero(t > level) for t in tops]
        below = partial(_bits, given, tops, deeper, level)
        bits = side.exchange(below, [_EVEN] * len(counts), [len(d) for d in deeper])
        for number, d, bit in zip(numbers, deeper, bits, strict=True):
            number[d] = 2 * number[d] + np.asarray(bit)
    return numbers


def leading_bit(numbers: np.ndarray) -> np.ndarray:
    """Position of the highest bit that is set, from 0."""
    return np.frexp(numbers.astype(np.float64))[1] - 1


def _bits(
    numbers: Sequence[np.ndarray], tops: Sequence[np.ndarray], deeper: Sequence[np.ndarray], level: int, _: Tensor
) -> list[np.ndarray]:
    """The bit ``level`` + 1 places below the leading one, of the numbers that have one."""
    parts = zip(numbers, tops, deeper, strict=True)
    return [((n[d] >> (t[d] - 1 - level)) & 1).astype(np.int32) for n, t, d in parts]
