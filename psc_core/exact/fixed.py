"""Fixed-point values in float64: sums of integers below 2^53 are exact in any order, on any device.

An image-like tensor lives on the grid 2^-14, clamped to +-8; a sensing row on 2^-22. By Cauchy-Schwarz no partial
sum of a product of the two exceeds 2^22 (norm of a row) x 2^17 sqrt(D), which stays below 2^53 up to D = 2^28.
"""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_BITS = 14
ROW_BITS = 22
PIXEL_LIMIT = 8.0


def to_grid(x: Tensor, bits: int = PIXEL_BITS, limit: float = PIXEL_LIMIT) -> Tensor:
    """Round to multiples of 2^-bits (half to even) within +-limit; integers as float64, any shape."""
    return (x.double() * 2.0**bits).round().clamp(-limit * 2.0**bits, limit * 2.0**bits)


def from_grid(ints: Tensor, bits: int = PIXEL_BITS) -> Tensor:
    """Inverse of :func:`to_grid`, float32; exact while the integers stay below 2^24."""
    return (ints * 2.0**-bits).float()


def snap(x: Tensor) -> Tensor:
    """``x`` (float32) rounded to the pixel grid."""
    return from_grid(to_grid(x))


def rescale(ints: Tensor, from_bits: int, to_bits: int) -> Tensor:
    """Move integers from one grid to a coarser one, half to even."""
    return (ints * 2.0 ** (to_bits - from_bits)).round()


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of integer-valued float64 matrices. The caller owes the bound that keeps partial sums below 2^53."""
    return torch.matmul(a, b)


def total(ints: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Exact sum of integer-valued float64 along ``dim``; the caller owes the bound of 2^53."""
    return ints.sum(dim=dim)


def clamp_grid(ints: Tensor, bits: int = PIXEL_BITS, limit: float = PIXEL_LIMIT) -> Tensor:
    """Keep integers on a grid within +-limit."""
    return ints.clamp(-limit * 2.0**bits, limit * 2.0**bits)
