"""Range coding by constriction, sealed to the shortest byte string.

Models are categorical with probabilities that are small integers over a common total, so that what constriction sees is
the same on every machine; its version is pinned. Where it has no wheel (Linux on aarch64), :mod:`.plain_coder` writes
and reads the same bytes, slowly.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from psc_core.coding.plain_coder import PlainDecoder, PlainEncoder
from psc_core.errors import CorruptStream

VARIABLE = "PSC_RANGE_CODER"
"""Environment variable: "plain" to do without constriction where it is installed."""

try:
    if os.environ.get(VARIABLE) == "plain":
        raise ImportError
    import constriction
except ImportError:
    LIBRARY: Any = None
else:
    LIBRARY = constriction.stream


def coder_name() -> str:
    """Which coder runs: "constriction", or "plain"."""
    return "constriction" if LIBRARY is not None else "plain"


class SymbolWriter:
    """Collects symbols; :meth:`finish` gives the bytes."""

    def __init__(self) -> None:
        self._encoder = PlainEncoder() if LIBRARY is None else _Encoder()
        self._empty = True

    def write(self, symbols: np.ndarray, weights: np.ndarray) -> None:
        """Append int ``symbols`` (n,) under one law, weights (k,), or a law each, weights (n, k)."""
        if not symbols.size:
            return
        self._encoder.encode(np.ascontiguousarray(symbols, dtype=np.int32), weights)
        self._empty = False

    def finish(self) -> bytes:
        """The shortest bytes that, with zeros after them, decode to what was written."""
        if self._empty:
            return b""
        low, width, words = self._encoder.interval()
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
        self._decoder = PlainDecoder(data) if LIBRARY is None else _Decoder(data)

    def read(self, count: int, weights: np.ndarray) -> np.ndarray:
        """The next ``count`` symbols under one law, or a law each: int32 (count,)."""
        return self._decoder.decode(count, weights) if count else np.empty(0, dtype=np.int32)


class _Encoder:
    """constriction's, as :class:`.plain_coder.PlainEncoder` is."""

    def __init__(self) -> None:
        self._encoder = LIBRARY.queue.RangeEncoder()

    def encode(self, symbols: np.ndarray, weights: np.ndarray) -> None:
        self._encoder.encode(symbols, *_model(weights))

    def interval(self) -> tuple[int, int, int]:
        position, (lower, width) = self._encoder.pos()
        sealed, words = self._encoder.get_compressed(), position + 2
        value = int.from_bytes(sealed.astype(">u4").tobytes().ljust(4 * words, b"\0"), "big")
        return value - ((value - lower) % 2**64), width, words


class _Decoder:
    """constriction's, as :class:`.plain_coder.PlainDecoder` is."""

    def __init__(self, data: bytes) -> None:
        words = -(-len(data) // 4) + 2
        self._decoder = LIBRARY.queue.RangeDecoder(np.frombuffer(data.ljust(4 * words, b"\0"), ">u4").astype(np.uint32))

    def decode(self, count: int, weights: np.ndarray) -> np.ndarray:
        try:
            return self._decoder.decode(*_model(weights), *(() if weights.ndim == 2 else (count,)))
        except (AssertionError, ValueError) as error:
            raise CorruptStream(f"the range-coded bytes hold no valid symbols: {error}") from None


def _model(weights: np.ndarray) -> tuple[Any, ...]:
    """Probabilities proportional to integer ``weights``, 0 allowed: (model,), or (model, parameters) of a law each."""
    values = np.ascontiguousarray(weights, dtype=np.float64)
    if weights.ndim == 2:
        return LIBRARY.model.Categorical(perfect=False), values
    return (LIBRARY.model.Categorical(values, perfect=False),)
