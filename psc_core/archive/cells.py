"""What is known of each coefficient: an interval. Measuring narrows it; projecting clamps a sample into it."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from psc_core.archive.lapped import LappedBasis
from psc_core.exact import fixed

UNKNOWN, ZERO, SIGNIFICANT = 0, 1, 2
"""Never coded; coded as "near its posterior mean"; coded into a proper bin."""
_OPEN = 2.0**40


class Cells:
    """Intervals (B, K) of the K coefficients of B canvases, integers on the pixel grid, in the lapped basis."""

    def __init__(self, basis: LappedBasis, canvases: int, device: torch.device | str) -> None:
        self.basis = basis
        size = basis.shape[0] * basis.shape[1] * basis.shape[2]
        self.low = torch.full((canvases, size), -_OPEN, dtype=torch.float64, device=device)
        self.high = torch.full((canvases, size), _OPEN, dtype=torch.float64, device=device)
        self.kind = torch.zeros(canvases, size, dtype=torch.int8, device=device)

    def alone(self, canvas: int) -> Cells:
        """One canvas's cells, in half the memory where that loses nothing."""
        own, part = copy(self), slice(canvas, canvas + 1)
        own.low, own.high, own.kind = _halved(self.low[part]), _halved(self.high[part]), self.kind[part].clone()
        return own

    def project(self, x_BSCHW: Tensor, inset: float) -> Tensor:
        """The nearest samples whose coefficients all lie in their cells; float32 on the pixel grid.

        inset: share of its width that a significant cell gives up at each end, 0 to 0.5. Where the network's estimate
        falls outside of the cell, the truth's mean is well inside: the border is the worst place of the cell for it.
        """
        shape = x_BSCHW.shape
        grid = fixed.to_grid(x_BSCHW).flatten(0, 1)
        z = self.basis.analyse(grid).view(shape[0], shape[1], -1)
        low, high = self.low.double(), self.high.double()
        margin = ((high - low) * (self.kind == SIGNIFICANT) * inset).round()
        low, high = (low + margin)[:, None], (high - margin)[:, None]
        moved = torch.minimum(torch.maximum(z, low), high) - z
        grid = grid + self.basis.synthesize(moved)
        return fixed.from_grid(fixed.clamp_grid(grid)).view(shape)

    def coefficients(self, x_BSCHW: Tensor) -> Tensor:
        """(B, s, K) integers."""
        shape = x_BSCHW.shape
        return self.basis.analyse(fixed.to_grid(x_BSCHW).flatten(0, 1)).view(shape[0], shape[1], -1)


def _halved(bounds: Tensor) -> Tensor:
    """As float32, if they are: integers up to 2^24 and open bounds, so all but those of the coarsest steps."""
    small = bounds.float()
    return small if torch.equal(small.double(), bounds) else bounds.clone()
