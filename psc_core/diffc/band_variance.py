"""How much is unknown in every band: what both sides expect, corrected by one small symbol a band and step.

Both sides expect that of a variance w, sent with v = w (1/s'^2 - 1/s^2), there remains w / (1 + v), as for Gaussian
data. The encoder measures what does, and sends the power of two between the two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from psc_core.sides import Side

_REACH = 8
_COUNT = 16
_BEGIN = (1, 1, 1, 1, 2, 4, 12, 80, 140, 24, 8, 4, 2, 1, 1, 1, 1)
"""The first law of the powers -8, ..., 8."""
_BETWEEN = np.array([2.0**k * float(np.sqrt(2.0)) for k in range(-_REACH, _REACH)])
_LEAST, _MOST = 2.0**-40, 2.0**20


class BandVariances:
    """Variances (B, bands) in squared pixel units, known to both sides, and the law of their corrections."""

    def __init__(self, first: np.ndarray, canvases: int) -> None:
        self.values = np.repeat(np.clip(first, _LEAST, _MOST)[None], canvases, axis=0)
        self._counts = [np.array(_BEGIN, dtype=np.int64) for _ in range(canvases)]

    def exchange(self, side: Side, measured: Callable[[Tensor], np.ndarray], asked: np.ndarray) -> None:
        """Correct the bands that are ``asked`` (B, bands) for.

        measured: truth -> variances (B, bands); an encoder calls it.
        """
        bands = [np.flatnonzero(own) for own in asked]

        def wanted(truth: Tensor) -> list[np.ndarray]:
            ratio = measured(truth) / self.values
            return [np.searchsorted(_BETWEEN, ratio[b, own]).astype(np.int32) for b, own in enumerate(bands)]

        symbols = side.exchange(wanted, self._counts, [len(own) for own in bands])
        for b, own in enumerate(bands):
            chosen = np.asarray(symbols[b], dtype=np.int64)
            self._counts[b] = self._counts[b] + _COUNT * np.bincount(chosen, minlength=2 * _REACH + 1)
            corrected = np.ldexp(self.values[b, own], (chosen - _REACH).astype(np.int32))
            self.values[b, own] = np.clip(corrected, _LEAST, _MOST)

    def reduce(self, sent: np.ndarray, variance: np.ndarray) -> None:
        """What remains of the bands that were ``sent`` (B, bands) with ``variance``, in units of the noise."""
        self.values = np.where(sent, np.maximum(self.values / (1.0 + variance), _LEAST), self.values)
