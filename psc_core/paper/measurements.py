"""Dense measurements y = Hx of a batch of canvases: orthonormal rows, and the projection onto Hx = y."""

from __future__ import annotations

import torch
from torch import Tensor

from psc_core.exact import fixed

_VALUE_BITS = 14
"""Measurements are rounded to 2^-14; |y| <= 8 sqrt(D) keeps every partial sum below 2^53."""


class DenseMeasurements:
    """Rows H (B, d, D) on the grid 2^-22 and measurements y (B, d), of B canvases in lockstep.

    The rows are orthonormal and kept so: no pseudo-inverse is needed (H Ht = I).
    """

    def __init__(self, canvases: int, dimension: int, device: torch.device | str = "cpu") -> None:
        self.rows = torch.empty(canvases, 0, dimension, dtype=torch.float64, device=device)
        self.values = torch.empty(canvases, 0, dtype=torch.float64, device=device)

    def append(self, rows_BrD: Tensor, values_Br: Tensor) -> None:
        """Add rows (integers on the grid 2^-22, orthonormal to all before) and what they measured (float64)."""
        self.rows = torch.cat((self.rows, rows_BrD), dim=1)
        self.values = torch.cat((self.values, _to_value(values_Br)), dim=1)

    def project(self, x_BSD: Tensor) -> Tensor:
        """The nearest point to x with Hx = y, x + Ht (y - Hx): (B, s, D), on the pixel grid, float32."""
        grid = fixed.to_grid(x_BSD)
        if self.rows.shape[1]:
            residual = self.values[:, None] - measure(self.rows, grid)
            step = fixed.matmul(residual, self.rows)
            grid = grid + fixed.rescale(step, _VALUE_BITS + fixed.ROW_BITS, fixed.PIXEL_BITS)
            limit = fixed.PIXEL_LIMIT * 2.0**fixed.PIXEL_BITS
            grid = grid.clamp(-limit, limit)
        return fixed.from_grid(grid)

    def back_projected_residual(self, x_BSD: Tensor) -> Tensor:
        """Ht (y - Hx), float32 (B, s, D): what guidance pulls by."""
        residual = self.values[:, None] - measure(self.rows, fixed.to_grid(x_BSD))
        return (fixed.matmul(residual, self.rows) * 2.0 ** -(_VALUE_BITS + fixed.ROW_BITS)).float()


def measure(rows_BrD: Tensor, grid_BSD: Tensor) -> Tensor:
    """Hx of samples on the pixel grid: integers on the grid 2^-14, (B, s, r)."""
    products = fixed.matmul(grid_BSD, rows_BrD.transpose(1, 2))
    return fixed.rescale(products, fixed.PIXEL_BITS + fixed.ROW_BITS, _VALUE_BITS)


def from_value(values: Tensor) -> Tensor:
    """Integers on the measurement grid as float64 numbers."""
    return values * 2.0**-_VALUE_BITS


def _to_value(values: Tensor) -> Tensor:
    return (values * 2.0**_VALUE_BITS).round()
