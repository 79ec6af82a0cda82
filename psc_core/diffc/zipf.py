"""The law of a winner's rank: Zipf's, corrected by what the stream has shown so far, and the symbols that carry it.

A rank n = 1, 2, ... is sent as the position b of its leading bit, then the b bits below it, which are all but uniform
under Zipf's law (0.03 bits are lost). Under it every b is about equally likely, but few winners of a chunk of K
expected bits have ranks far above 2^K, so b - K is counted as the stream goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from psc_core.sides import Side

_EVEN = np.ones(2, dtype=np.int64)
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
    found: list[np.ndarray] = []

    def leading(truth: Tensor) -> list[np.ndarray]:
        found.extend(ranks + 1 for ranks in wanted(truth))
        return [(np.frexp(n.astype(np.float64))[1] - 1).astype(np.int32) for n in found]

    counts = [len(e) for e in expected]
    weights = [law.weights(e) for law, e in zip(laws, expected, strict=True)]
    tops = [np.asarray(t, dtype=np.int64) for t in side.exchange(leading, weights, counts)]
    for law, top, e in zip(laws, tops, expected, strict=True):
        law.learn(top, e)
    numbers = [np.ones(n, dtype=np.int64) for n in counts]
    for level in range(max((int(t.max()) for t in tops if len(t)), default=0)):
        deeper = [np.flatnonzero(t > level) for t in tops]
        bits = side.exchange(
            lambda truth, deeper=deeper, level=level: [  # type: ignore[misc]
                ((n[d] >> (t[d] - 1 - level)) & 1).astype(np.int32) for n, d, t in zip(found, deeper, tops, strict=True)
            ],
            [_EVEN] * len(counts),
            [len(d) for d in deeper],
        )
        for number, d, bit in zip(numbers, deeper, bits, strict=True):
            number[d] = 2 * number[d] + np.asarray(bit)
    return [n - 1 for n in numbers]
