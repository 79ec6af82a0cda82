"""Candidates of the reverse channel coder: rows of one random codebook, turned by a chunk's own signs and offset.

All chunks search the same rows, which makes the search a matrix product. A chunk begins at a row of its own and flips
signs of its own, so that no two chunks see the same candidates. A decoder draws the winning rows alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import noise
from psc_core.exact.logarithm import ln

WIDTH = 128
"""Coefficients of a chunk, at most."""
_ROWS = noise.NoiseKey(0, 0, 255, 0, 0)
_SIGNING, _ARRIVING = 1, 2
_SIGN_WORDS = WIDTH // 32


class Codebook:
    """2^bits rows of standard normal numbers, multiples of 2^-12."""

    def __init__(self, bits: int, device: torch.device) -> None:
        self.bits, self.size, self.device = bits, 1 << bits, device

    def candidates(self) -> tuple[Tensor, Tensor]:
        """z and z^2 of every row as columns: (128, size) float64, whole numbers on the grid 2^-12."""
        return _candidates(self.size, str(self.device))

    def winners(self, ranks: np.ndarray, draws: Draws, width: int) -> np.ndarray:
        """The candidates (chunks, width) float64 of these ranks, signs turned."""
        rows = noise.rows(_ROWS, (ranks + draws.offsets) % self.size, WIDTH)
        return rows[:, :width].astype(np.float64) * draws.signs[:, :width]


class Draws:
    """What belongs to the chunks of one step of one canvas: offsets (chunks,), signs (chunks, 128), arrivals."""

    def __init__(self, seed: int, canvas: int, step: int, chunks: int, size: int) -> None:
        self._where, self.chunks = (seed, canvas, step), chunks
        words = self._words(_SIGNING, 1 + _SIGN_WORDS)
        self.offsets = words[:, 0].astype(np.int64) % size
        bits = words[:, 1:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
        self.signs = 1.0 - 2.0 * bits.reshape(chunks, WIDTH).astype(np.float64)

    def exponentials(self, count: int) -> np.ndarray:
        """Exponential variates (chunks, count), float64 whole numbers on the grid 2^-16: for the encoder."""
        uniform = (self._words(_ARRIVING, count).astype(np.float64) + 0.5) * 2.0**-32
        return np.maximum(np.rint(ln(uniform) * -(2.0**16)), 1.0)

    def _words(self, purpose: int, count: int) -> np.ndarray:
        seed, canvas, step = self._where
        key = noise.NoiseKey(seed, canvas, 16 + purpose, step, 0)
        return noise.words(key, 0, self.chunks * count).reshape(self.chunks, count)


@cache
def _candidates(size: int, device: str) -> tuple[Tensor, Tensor]:
    rows = noise.normal(_ROWS, range(1), (size, WIDTH))[0]
    z = (rows.double() * 2.0**noise.TABLE_BITS).T.contiguous().to(device)
    return z, (z * z * 2.0**-noise.TABLE_BITS).round()
