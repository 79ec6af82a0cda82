"""The law of a winner's rank: Zipf's, corrected by what the stream has shown so far, and the symbols that carry it.

A rank n = 1, 2, ... is sent as the position b of its leading bit, then the b bits below it, which are all but uniform
under Zipf's law (0.03 bits are lost). Under it every b is about equally likely, but few winners of a chunk of K
expected bits have ranks far above 2^K, so b - K is counted as the stream goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from psc_core.coding.elias_gamma import exchange_gamma, leading_bit
from psc_core.sides import Side

_REACH = 20
_COUNT = 64


class RankLaw:
    """Counts of b - K in one canvas's stream."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        near = np.arange(-_REACH, _REACH + 1)
        self._counts = np.array([_BEGIN.get(int(d), 100 if d < 4 else 4) for d in near], dtype=np.int64)

    def weights(self, expected: np.ndarray) -> np.ndarray:
        """Weights of b = 0..bits (chunks, bits + 1) for chunks of ``expected`` bits (chunks,)."""
        return self._counts[_REACH + self._from(np.arange(self.bits + 1), expected[:, None])]

    def learn(self, leading: np.ndarray, expected: np.ndarray) -> None:
        """Count the leading-bit positions (chunks,) of a step."""
        seen = np.bincount(_REACH + self._from(leading.astype(np.int64), expected), minlength=len(self._counts))
        self._counts += _COUNT * seen

    @staticmethod
    def _from(leading: np.ndarray, expected: np.ndarray) -> np.ndarray:
        return np.clip(leading - expected, -_REACH, _REACH)


_BEGIN = {4: 30, 5: 12, 6: 8}
"""The first law, worth some twenty chunks: flat, as Zipf's is in b, up to a little above the expected bits."""


def exchange_ranks(
    side: Side,
    wanted: Callable[[Tensor], list[np.ndarray]],
    laws: Sequence[RankLaw],
    expected: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """The ranks (from 0) of every canvas's chunks; ``wanted`` turns the truth into them, at the encoder alone."""
    weights = [law.weights(e) for law, e in zip(laws, expected, strict=True)]
    counts = [len(e) for e in expected]
    numbers = exchange_gamma(side, lambda truth: [ranks + 1 for ranks in wanted(truth)], weights, counts)
    for law, n, e in zip(laws, numbers, expected, strict=True):
        law.learn(leading_bit(n), e)
    return [n - 1 for n in numbers]
