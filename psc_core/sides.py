"""What tells encoder and decoder apart: one writes the symbols that the truth asks for, the other reads them.

A stage is one function for both; a side is its argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from psc_core.coding.range_coder import SymbolReader, SymbolWriter

Symbols = list[np.ndarray]


class Side(Protocol):
    """One end of the channel, for a batch of canvases."""

    def exchange(
        self, wanted: Callable[[Tensor], Symbols], weights: Sequence[np.ndarray], counts: Sequence[int]
    ) -> Symbols:
        """The symbols of every canvas, int arrays of ``counts`` symbols under integer ``weights``.

        ``wanted`` turns the truth into symbols; only an encoder calls it.
        """


class EncoderSide:
    """Holds the truth (B, C, H, W) and writes."""

    def __init__(self, truth_BCHW: Tensor) -> None:
        self.truth = truth_BCHW
        self._writers = [SymbolWriter() for _ in truth_BCHW]

    def exchange(
        self, wanted: Callable[[Tensor], Symbols], weights: Sequence[np.ndarray], counts: Sequence[int]
    ) -> Symbols:
        symbols = wanted(self.truth)
        for writer, some, law in zip(self._writers, symbols, weights, strict=True):
            writer.write(some, law)
        return symbols

    def finish(self) -> list[bytes]:
        """The payload of every canvas since the last call."""
        payloads = [writer.finish() for writer in self._writers]
        self._writers = [SymbolWriter() for _ in self._writers]
        return payloads


class DecoderSide:
    """Reads one payload a canvas."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self._readers = [SymbolReader(payload) for payload in payloads]

    def exchange(
        self, wanted: Callable[[Tensor], Symbols], weights: Sequence[np.ndarray], counts: Sequence[int]
    ) -> Symbols:
        return [r.read(n, law) for r, n, law in zip(self._readers, counts, weights, strict=True)]
