"""The range coder in plain integers: the bytes that constriction writes, for machines that it has no wheel for.

Range coding (Martin 1979) with 32-bit words, 64-bit state and 24-bit probabilities, and constriction's rounding of
weights to them, as of its version 0.5. Some hundred times slower; a stream stays readable without the library.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from psc_core.errors import CorruptStream

_PRECISION = 24
_WORD, _STATE = 32, 64


def boundaries(weights_NK: np.ndarray) -> np.ndarray:
    """Cumulative probabilities of k symbols in units of 2^-24, int64 (n, k + 1), at least 1 between neighbours.

    constriction's fast rounding: the share of weight below a symbol, times what is left when each symbol has its 1.
    """
    whole = weights_NK.astype(np.int64)
    below = np.zeros((whole.shape[0], whole.shape[1] + 1), dtype=np.int64)
    np.cumsum(whole, axis=1, out=below[:, 1:])
    scale = float((1 << _PRECISION) - whole.shape[1]) / below[:, -1:].astype(np.float64)
    edges = (below * scale).astype(np.int64) + np.arange(whole.shape[1] + 1)
    edges[:, -1] = 1 << _PRECISION
    return edges


class PlainEncoder:
    """The interval [lower, lower + width) of all symbols so far; ``lower`` is one long integer, carries included."""

    def __init__(self) -> None:
        self.lower, self.width, self.words = 0, (1 << _STATE) - 1, _STATE // _WORD

    def encode(self, symbols: np.ndarray, weights_NK: np.ndarray) -> None:
        """Append ``symbols`` (n,) under a law each, or all under one (n = 1)."""
        for symbol, edges in zip(symbols.tolist(), _laws(weights_NK, len(symbols)), strict=True):
            scale = self.width >> _PRECISION
            self.lower += scale * edges[symbol]
            self.width = scale * (edges[symbol + 1] - edges[symbol])
            if self.width < 1 << _WORD:
                self.lower <<= _WORD
                self.width <<= _WORD
                self.words += 1

    def interval(self) -> tuple[int, int, int]:
        """(lower, width) of the interval, and how many words ``lower`` has."""
        return self.lower, self.width, self.words


class PlainDecoder:
    """Reads big-endian words; zeros follow the last."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, _STATE // 8
        self._offset = int.from_bytes(data[: self._next].ljust(self._next, b"\0"), "big")
        self._width = (1 << _STATE) - 1

    def decode(self, count: int, weights_NK: np.ndarray) -> np.ndarray:
        """The next ``count`` symbols: int32. Raises :class:`CorruptStream` for a point outside of every symbol."""
        symbols = np.empty(count, dtype=np.int32)
        for place, edges in enumerate(_laws(weights_NK, count)):
            scale = self._width >> _PRECISION
            quantile = self._offset // scale
            if quantile >> _PRECISION:
                raise CorruptStream("the range-coded bytes hold no valid symbols")
            symbol = symbols[place] = bisect_right(edges, quantile) - 1
            self._offset -= scale * edges[symbol]
            self._width = scale * (edges[symbol + 1] - edges[symbol])
            if self._width < 1 << _WORD:
                word = self._data[self._next : self._next + 4].ljust(4, b"\0")
                self._offset = (self._offset << _WORD) | int.from_bytes(word, "big")
                self._width <<= _WORD
                self._next += 4
        return symbols


def _laws(weights_NK: np.ndarray, count: int) -> list[list[int]]:
    edges = boundaries(np.atleast_2d(weights_NK)).tolist()
    return edges * count if len(edges) == 1 else edges
