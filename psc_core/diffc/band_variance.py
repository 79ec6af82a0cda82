"""How much is unknown in every band: what both sides expect, corrected by one small index a band and step.

Without a correction a band's variance w is what a Gaussian would keep: w / (1 + v) after a step that sent it with
v = w (1/s'^2 - 1/s^2). The encoder measures the true one, and sends the difference in powers of sqrt 2.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from psc_core.sides import Side

_REACH = 8
_COUNT = 16
_LEVELS = 104
_LOWEST = 2.0**-32


class BandVariances:
    """Variances (B, bands) in squared pixel units, known to both sides, and the law of their corrections."""

    def __init__(self, first: np.ndarray, canvases: int) -> None:
        self.values = np.repeat(first[None], canvases, axis=0)
        self._counts = [np.array(_BEGIN, dtype=np.int64) for _ in range(canvases)]

    def exchange(self, side: Side, measured, asked: np.ndarray) -> None:  # type: ignore[no-untyped-def]
        """Correct the bands that are ``asked`` (B, bands) for.

        measured: truth -> variances (B, bands); an encoder calls it.
        """
        bands = [np.flatnonzero(own) for own in asked]
        expected = [_index(values[own]) for values, own in zip(self.values, bands, strict=True)]

        def wanted(truth) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
            true = measured(truth)
            found = (_index(true[b, own]) - expected[b] for b, own in enumerate(bands))
            return [(np.clip(difference, -_REACH, _REACH) + _REACH).astype(np.int32) for difference in found]

        symbols = side.exchange(wanted, self._counts, [len(own) for own in bands])
        for b, own in enumerate(bands):
            chosen = np.asarray(symbols[b], dtype=np.int64)
            self._counts[b] = self._counts[b] + _COUNT * np.bincount(chosen, minlength=2 * _REACH + 1)
            self.values[b, own] = _table()[np.clip(expected[b] + chosen - _REACH, 0, _LEVELS - 1)]


_BEGIN = (1, 1, 1, 2, 4, 8, 16, 32, 48, 32, 16, 8, 4, 2, 1, 1, 1)


def _index(variance: np.ndarray) -> np.ndarray:
    """The nearest level of every variance, int64."""
    between = _table()[:-1] * 1.189207115002721
    return np.searchsorted(between, variance, side="right")


@cache
def _table() -> np.ndarray:
    """2^-32, ..., by powers of sqrt 2."""
    root = float(np.sqrt(2.0))
    return np.array([_LOWEST * 2.0 ** (i // 2) * (root if i % 2 else 1.0) for i in range(_LEVELS)])
