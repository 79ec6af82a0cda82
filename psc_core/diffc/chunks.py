"""The chunk plan: the coefficients that a step sends, cut into runs of about equally many expected bits.

Both sides know every band's variance, so the plan costs nothing beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from psc_core.diffc.codebook import WIDTH
from psc_core.exact.transcendental import ln

_UNIT = 4096
"""Expected bits are counted in 4096ths."""


@dataclass(frozen=True)
class Chunks:
    """Chunks of one canvas in one step.

    places: sorted coefficients (m,) that are sent; variance: of each (m,), in units of the step's noise; starts
    (count + 1,): where chunks begin; bits (count,): expected bits of a chunk, rounded.
    """

    places: np.ndarray
    variance: np.ndarray
    starts: np.ndarray
    bits: np.ndarray

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def width(self) -> int:
        """Coefficients of the longest chunk."""
        return int((self.starts[1:] - self.starts[:-1]).max()) if self.count else 0

    def padded(self, values: np.ndarray) -> np.ndarray:
        """A value a coefficient (m,) as (count, width), zeros after each chunk's end."""
        return np.where(self._inside, np.concatenate((values, np.zeros(1)))[self._index], 0.0)

    def flat(self, values: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`padded`."""
        return values[self._inside]

    @cached_property
    def _index(self) -> np.ndarray:
        place = self.starts[:-1, None] + np.arange(self.width)
        return np.where(self._inside, place, len(self.places))

    @cached_property
    def _inside(self) -> np.ndarray:
        return np.arange(self.width) < (self.starts[1:] - self.starts[:-1])[:, None]


def cut(starts: np.ndarray, variances: np.ndarray, sent: np.ndarray, target: int) -> Chunks:
    """Cut the coefficients of the bands that are ``sent`` into chunks.

    Args:
        starts: where bands begin among the sorted coefficients (bands + 1,).
        variances: of every band (bands,), in units of the step's noise.
        sent: bands to send (bands,) bool.
        target: expected bits of a chunk; it is given fewer where it would pass 128 coefficients.
    """
    bands = np.flatnonzero(sent)
    if not len(bands):
        none = np.zeros(0)
        return Chunks(none.astype(np.int64), none, np.zeros(1, dtype=np.int64), none.astype(np.int64))
    sizes = (starts[1:] - starts[:-1])[bands]
    cost = np.repeat(np.array([expected_bits(v) for v in variances[bands].tolist()]), sizes)
    places = np.concatenate([np.arange(starts[b], starts[b + 1]) for b in bands])
    least = target * _UNIT // (WIDTH - 1) + 1
    weight = np.maximum(cost, least)
    before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(weight)))
    count = -(-int(before[-1]) // (target * _UNIT))
    chunk = before[:-1] * count // int(before[-1])
    begins = np.searchsorted(chunk, np.arange(count + 1))
    begins = np.concatenate((begins[:-1][begins[1:] > begins[:-1]], begins[-1:]))
    spent = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(cost)))[begins]
    bits = (spent[1:] - spent[:-1] + _UNIT // 2) // _UNIT
    return Chunks(places, np.repeat(variances[bands], sizes), begins, bits)


def expected_bits(variance: float) -> int:
    """D_KL of N(mu, 1) from N(0, 1 + v), averaged over mu of variance v: log2(1 + v) / 2, in 4096ths of a bit."""
    return round(ln(1.0 + variance) / ln(2.0) * (_UNIT / 2))
