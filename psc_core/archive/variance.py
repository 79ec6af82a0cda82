"""The structured posterior covariance: a variance for every coefficient of the window basis, shrunk toward its pool.

A raw covariance of a few samples is mostly noise. Here the samples' variance of a coefficient is shrunk toward
(pooled variance of its frequency) x (activity of its window in its frequency band, of fine detail that of a quarter of
the window), both of which are averages over many values. All sums are of integers: the estimate is the same everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.archive.lapped import LappedBasis
from psc_core.exact import fixed
from psc_core.windows import WindowBasis

_RATIO_BITS = 12
_BANDS = (0, 1, 3, 6, 12, 24)
_FLOOR = 1.0
"""Smallest variance, in squared grid steps."""


def posterior_variance(z_BSK: Tensor, mean_BK: Tensor, basis: LappedBasis, shrink: float) -> Tensor:
    """Variance (B, K), in squared grid steps, of every coefficient given its samples z.

    shrink: how many samples the pool is worth (the prototype's nu).
    """
    samples = z_BSK.shape[1]
    shape = (z_BSK.shape[0], *basis.shape)
    raw = _spread(z_BSK, mean_BK).view(shape).clamp(max=_most(basis))
    dof = float(samples - 1)
    pooled = _pool_frequencies(raw, basis)
    gain = _window_gain(raw, pooled, basis)
    expected = pooled * gain
    blended = (expected * shrink + raw * dof) / torch.full_like(raw, shrink + dof)
    return blended.clamp(min=_FLOOR).flatten(1)


def _spread(z_BSK: Tensor, mean_BK: Tensor) -> Tensor:
    """Unbiased sample variance, rounded to an integer; samples are added in order."""
    total = torch.zeros_like(mean_BK)
    for s in range(z_BSK.shape[1]):
        difference = z_BSK[:, s] - mean_BK
        total = total + difference * difference
    return (total / torch.full_like(total, float(z_BSK.shape[1] - 1))).round()


def _most(basis: WindowBasis) -> float:
    """The variance above which sums over windows and rings might pass 2^53; samples of no real image come near."""
    largest_ring = int(np.bincount(basis.radius).max())
    return float(2**53 // (basis.shape[1] * largest_ring))


def _pool_frequencies(raw_BCWF: Tensor, basis: WindowBasis) -> Tensor:
    """Mean over windows, shrunk toward the mean of its ring of frequencies: (B, C, 1, F)."""
    windows = raw_BCWF.shape[2]
    over_windows = fixed.total(raw_BCWF, dim=2)
    ring = _members(basis.radius, raw_BCWF.device)
    in_ring = fixed.matmul(over_windows, ring.T) / (ring.sum(dim=1).clamp(min=1.0) * float(windows))
    spread = torch.index_select(in_ring, 2, torch.from_numpy(basis.radius).to(raw_BCWF.device))
    pooled = (over_windows + spread * _RING_WORTH) / torch.full_like(spread, windows + _RING_WORTH)
    return pooled[:, :, None].clamp(min=_FLOOR)


_RING_WORTH = 8.0


def _window_gain(raw_BCWF: Tensor, pooled_BC1F: Tensor, basis: LappedBasis) -> Tensor:
    """How much more a window, of fine detail a quarter of it, varies than its pool in a band: (B, C, W, F)."""
    ratio = fixed.to_grid(raw_BCWF / pooled_BC1F, _RATIO_BITS, 2.0**12)
    band = _band(basis)
    gain = _gain(ratio, band, torch.ones_like(ratio))
    return _gain(ratio, 4 * band + basis.quarter * (band >= _FINE), gain)


def _gain(ratio_BCWF: Tensor, part: np.ndarray, usual_BCWF: Tensor) -> Tensor:
    """Mean ratio over each part (F,) of a window, shrunk toward what is usual there: (B, C, W, F)."""
    members = _members(part, ratio_BCWF.device)
    of_each = torch.from_numpy(part).to(ratio_BCWF.device)
    total = torch.index_select(fixed.matmul(ratio_BCWF, members.T) * 2.0**-_RATIO_BITS, 3, of_each)
    return (total + usual_BCWF * _GAIN_WORTH) / (members.sum(dim=1)[of_each] + _GAIN_WORTH)


_GAIN_WORTH = 4.0
_FINE = 2
"""The first band whose quarters are told apart."""


def _members(group: np.ndarray, device: torch.device) -> Tensor:
    """Which coefficients of a window are in each group: (groups, F)."""
    return torch.nn.functional.one_hot(torch.from_numpy(group)).T.double().contiguous().to(device)


def _band(basis: WindowBasis) -> np.ndarray:
    """Frequency band (0 = DC) of each coefficient of a window: (F,)."""
    return np.searchsorted(_BANDS, basis.radius, side="right") - 1


def band_of(basis: WindowBasis) -> np.ndarray:
    """Frequency band (0 = DC) of every coefficient (K,)."""
    return np.broadcast_to(_band(basis), basis.shape).reshape(-1)
