"""Range coding by constriction, sealed to the shortest byte string.

Models are categorical with probabilities that are small integers over a common total, so that what constriction sees is
the same on every machine; its version is pinned.
"""

from __future__ import annotations

import constriction
import numpy as np

from psc_core.errors import CorruptStream

_queue = constriction.stream.queue
_Categorical = constriction.stream.model.Categorical
_EACH = _Categorical(perfect=False)


def categorical(weights: np.ndarray):  # type: ignore[no-untyped-def]
    """A model of symbols 0..n-1 with probabilities proportional to integer ``weights`` (n,), 0 allowed."""
    return _Categorical(weights.astype(np.float64), perfect=False)


class SymbolWriter:
    """Collects symbols; :meth:`finish` gives the bytes."""

    def __init__(self) -> None:
        self._encoder = _queue.RangeEncoder()
        self._empty = True

    def write(self, symbols: np.ndarray, weights: np.ndarray) -> None:
        """Append int ``symbols`` (n,) under one law, weights (k,), or a law each, weights (n, k)."""
        if not symbols.size:
            return
        symbols = np.ascontiguousarray(symbols, dtype=np.int32)
        if weights.ndim == 2:
            self._encoder.encode(symbols, _EACH, np.ascontiguousarray(weights, dtype=np.float64))
        else:
            self._encoder.encode(symbols, categorical(weights))
        self._empty = False

    def finish(self) -> bytes:
        """The shortest bytes that, with zeros after them, decode to what was written."""
        if self._empty:
            return b""
        position, (lower, width) = self._encoder.pos()
        sealed = self._encoder.get_compressed()
        words = position + 2
        value = int.from_bytes(sealed.astype(">u4").tobytes().ljust(4 * words, b"\0"), "big")
        low = value - ((value - lower) % 2**64)
        for size in range(max(0, 4 * words - 16), 4 * words + 1):  # the open interval is narrower than 2^64
            unit = 1 << 8 * (4 * words - size)
            shortest = -(-low // unit) * unit
            if shortest < low + width:
                sealed_bytes = (shortest >> 8 * (4 * words - size)).to_bytes(size, "big")
                return sealed_bytes.rstrip(b"\0") or b"\0"
        raise AssertionError("an interval of at least one value holds a full-length number")


class SymbolReader:
    """Reads back what :class:`SymbolWriter` wrote."""

    def __init__(self, data: bytes) -> None:
        words = -(-len(data) // 4) + 2
        self._decoder = _queue.RangeDecoder(np.frombuffer(data.ljust(4 * words, b"\0"), ">u4").astype(np.uint32))

    def read(self, count: int, weights: np.ndarray) -> np.ndarray:
        """The next ``count`` symbols under one law, or a law each: int32 (count,)."""
        if not count:
            return np.empty(0, dtype=np.int32)
        try:
            if weights.ndim == 2:
                return self._decoder.decode(_EACH, np.ascontiguousarray(weights, dtype=np.float64))
            return self._decoder.decode(categorical(weights), count)
        except (AssertionError, ValueError) as error:
            raise CorruptStream(f"the range-coded bytes hold no valid symbols: {error}") from None
