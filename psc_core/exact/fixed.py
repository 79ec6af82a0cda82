"""Fixed-point values in float64: sums of integers below 2^53 are exact in any order, on any device.

An image-like tensor lives on the grid 2^-14, clamped to +-8; a sensing row on 2^-22. By Cauchy-Schwarz no partial
sum of a product of the two exceeds 2^22 (norm of a row) x 2^17 sqrt(D), which stays below 2^53 up to D = 2^28.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from psc_core.errors import PscError

PIXEL_BITS = 14
ROW_BITS = 22
PIXEL_LIMIT = 8.0


def to_grid(x: Tensor, bits: int = PIXEL_BITS, limit: float = PIXEL_LIMIT) -> Tensor:
    """Round to multiples of 2^-bits (half to even) within +-limit; integers as float64, any shape."""
    return (x.double() * 2.0**bits).round().clamp(-limit * 2.0**bits, limit * 2.0**bits)


def from_grid(ints: Tensor, bits: int = PIXEL_BITS) -> Tensor:
    """Inverse of :func:`to_grid`, float32; exact while the integers stay below 2^24."""
    return (ints * 2.0**-bits).float()


def rescale(ints: Tensor, from_bits: int, to_bits: int) -> Tensor:
    """Move integers from one grid to a coarser one, half to even."""
    return (ints * 2.0 ** (to_bits - from_bits)).round()


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of integer-valued float64 matrices. The caller owes the bound that keeps partial sums below 2^53.

    Raises :class:`PscError` where the library's product is not a sum of products (emulated or reduced precision).
    """
    _check_products(str(a.device))
    return torch.matmul(a, b)


@cache
def _check_products(device: str) -> None:
    """Known answers whose sums come near 2^53."""
    place = torch.arange(40 * 64, dtype=torch.int64, device="cpu")
    a = (place * 2654435761 % (2**24 - 1) - 2**23).view(40, 64)
    b = (place * 40503 % (2**24 - 1) - 2**23).view(64, 40)
    got = torch.matmul(a.double().to(device), b.double().to(device)).cpu()
    if not torch.equal(got, (a[:, :, None] * b).sum(dim=1).double()):
        raise PscError(f"float64 matrix products on {device} are not exact on whole numbers: no exact arithmetic there")


def total(ints: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Exact sum of integer-valued float64 along ``dim``; the caller owes the bound of 2^53."""
    return ints.sum(dim=dim)


def clamp_grid(ints: Tensor, bits: int = PIXEL_BITS, limit: float = PIXEL_LIMIT) -> Tensor:
    """Keep integers on a grid within +-limit."""
    return ints.clamp(-limit * 2.0**bits, limit * 2.0**bits)
