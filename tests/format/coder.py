"""Section 2: range decoding."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from tests.format.container import Bad


class Decoder:
    """One payload's symbols."""

    def __init__(self, payload: bytes) -> None:
        self.left = payload[8:]
        self.offset = int.from_bytes(payload[:8].ljust(8, b"\0"), "big")
        self.width = 2**64 - 1

    def symbol(self, weights: Sequence[float]) -> int:
        return self.under(boundaries(weights))

    def symbols(self, weights: np.ndarray) -> np.ndarray:
        """One under each row of (n, k) weights."""
        return np.array([self.symbol(row) for row in weights.tolist()], dtype=np.int64)

    def under(self, edges: list[int]) -> int:
        r = self.width >> 24
        q = self.offset // r
        if q >= 1 << 24:
            raise Bad("no symbol")
        found = bisect_right(edges, q) - 1
        self.offset -= r * edges[found]
        self.width = r * (edges[found + 1] - edges[found])
        if self.width < 1 << 32:
            self.offset = self.offset << 32 | int.from_bytes(self.left[:4].ljust(4, b"\0"), "big")
            self.width <<= 32
            self.left = self.left[4:]
        return found


def boundaries(weights: Sequence[float]) -> list[int]:
    below = [0]
    for weight in weights:
        below.append(below[-1] + int(weight))
    scale = float(2**24 - len(weights)) / float(below[-1])
    return [int(float(b) * scale) + i for i, b in enumerate(below[:-1])] + [1 << 24]
