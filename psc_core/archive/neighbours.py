"""Before any sample is drawn: the mean of a window from those of its neighbours, and its slopes from theirs.

The first stage codes the windows' means in three phases, each after the one before: every other window of every other
row, then the windows between four of them, then the rest, which have known neighbours on all sides. Constants are
regressions over ImageNet photographs at three sizes; of latents nothing is expected.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.archive.lapped import LappedBasis
from psc_core.spectrum import Law, initial_variance

_LAW: Law = ((606.0, 32.0, 2.15), (50.0, 0.7, 2.2), (22.0, 0.44, 2.25))
"""Variances of windows without neighbours."""
_DIAGONAL = np.array([[0.0, 0.6, 0.8, 0.9, 1.0], [0.0, 0.75, 0.85, 0.95, 1.0]])
_DIAGONAL_LEFT = np.array([[1.0, 0.82, 0.58, 0.5, 0.4], [1.0, 0.45, 0.4, 0.35, 0.28]])
_BESIDE = np.array([[0.0, 0.7, 0.9, 1.05, 1.08], [0.0, 0.8, 0.92, 1.04, 1.06]])
_BESIDE_LEFT = np.array([[1.0, 0.6, 0.42, 0.24, 0.2], [1.0, 0.4, 0.24, 0.15, 0.13]])
"""Of luma, then of chroma, by how many neighbours are known: share of their mean; share of the variance left."""
_SLOPE, _HALF_SLOPE, _BEND = -0.15, -0.048, 0.037
_SLOPE_LEFT, _HALVES_LEFT = np.array([1.0, 0.9, 0.74]), np.array([1.0, 0.94, 0.83])
"""Of the slope of a window across and those of its halves, from the means on both sides; by how many there are."""
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))


def first_variance(basis: LappedBasis, device: torch.device | str) -> Tensor:
    """Variance (K,) of the first stage's coefficients around :func:`first_mean`, in squared grid steps."""
    if basis.channels != 3:
        return initial_variance(basis, device)
    left = np.ones((basis.channels, basis.down, basis.across, basis.window, basis.window))
    colour = np.array([0, 1, 1])[:, None, None]
    corners, sides = (_count(basis, pattern) for pattern in (_CORNERS, _SIDES))
    odd_row, odd_column = _odd(basis)
    between = np.where(odd_row & odd_column, _DIAGONAL_LEFT[colour, corners], 1.0)
    left[..., 0, 0] = np.where(odd_row ^ odd_column, _BESIDE_LEFT[colour, sides], between)
    across, down = _count(basis, ((0, -1), (0, 1))), _count(basis, ((-1, 0), (1, 0)))
    left[..., 0, 1], left[..., 1, 0] = _SLOPE_LEFT[across], _SLOPE_LEFT[down]
    left[..., 0, 2:4], left[..., 2:4, 0] = _HALVES_LEFT[across][..., None], _HALVES_LEFT[down][..., None]
    return initial_variance(basis, device, _LAW) * torch.from_numpy(left).reshape(-1).to(device)


def first_mean(values_BK: np.ndarray, basis: LappedBasis) -> np.ndarray:
    """Mean (B, K) of every coefficient given the windows' means of the phases before its own.

    ``values``: what is known of every coefficient; only the means of windows are looked at.
    """
    mean = np.zeros_like(values_BK)
    if basis.channels != 3:
        return mean
    grid = (-1, basis.channels, basis.down, basis.across, basis.window, basis.window)
    to, dc = mean.reshape(grid), values_BK.reshape(grid)[..., 0, 0]
    colour = np.array([0, 1, 1])[:, None, None]
    odd_row, odd_column = _odd(basis)
    corners, sides = _count(basis, _CORNERS), _count(basis, _SIDES)
    diagonal = _sum(dc, _CORNERS) / np.maximum(corners, 1) * _DIAGONAL[colour, corners]
    beside = _sum(dc, _SIDES) / np.maximum(sides, 1) * _BESIDE[colour, sides]
    to[..., 0, 0] = np.where(odd_row & odd_column, diagonal, np.where(odd_row ^ odd_column, beside, 0.0))
    to[..., 0, 1], to[..., 0, 2], to[..., 0, 3] = _from_sides(dc)
    to[..., 1, 0], to[..., 2, 0], to[..., 3, 0] = (x.swapaxes(2, 3) for x in _from_sides(dc.swapaxes(2, 3)))
    return mean


def _from_sides(dc: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes of windows, of their left and of their right halves, from the means (B, C, down, across) on both sides."""
    left = np.concatenate((dc[..., :1], dc[..., :-1]), axis=3)
    right = np.concatenate((dc[..., 1:], dc[..., -1:]), axis=3)
    slope, bend = right - left, (right + left - 2.0 * dc) * _BEND
    return slope * _SLOPE, slope * _HALF_SLOPE + bend, slope * _HALF_SLOPE - bend


def _odd(basis: LappedBasis) -> tuple[np.ndarray, np.ndarray]:
    """Whether a window's row, and its column, is odd: (down, across)."""
    row, column = np.indices((basis.down, basis.across)) % 2 == 1
    return row, column


def _count(basis: LappedBasis, pattern: tuple[tuple[int, int], ...]) -> np.ndarray:
    """How many windows there are at these places around each: (down, across)."""
    return _sum(np.ones((basis.down, basis.across), dtype=np.int64), pattern)


def _sum(x: np.ndarray, pattern: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Sum over places around each window (..., down, across), added in the pattern's order; 0 outside."""
    rows, columns = x.shape[-2:]
    around = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    total = np.zeros_like(x)
    for down, across in pattern:
        total = total + around[..., 1 + down : 1 + down + rows, 1 + across : 1 + across + columns]
    return total
