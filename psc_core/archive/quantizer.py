"""The quantizer of a stage: uniform bins around each coefficient's posterior mean, the one at zero of its own width.

The zero bin is wider where the deviation is small, since there it costs more bits to leave it (Sullivan 1996).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from psc_core.profiles import ArchiveProfile

BINS = 8
"""Bins on each side of zero that have a symbol; the last one is an escape."""


class Quantizer(NamedTuple):
    """Of n coefficients: bin 0 is ``centre`` ± ``dead``, the bins beyond it are ``width`` wide; in grid steps."""

    centre: np.ndarray
    dead: np.ndarray
    width: float

    @classmethod
    def around(cls, mean: np.ndarray, deviation: np.ndarray, width: float, profile: ArchiveProfile) -> Quantizer:
        """Zero bins from ``dead_zone`` steps, where the deviation is far below a step, to ``dead_zone_far``."""
        small = width * width / (width * width + deviation * deviation)
        dead = ((profile.dead_zone - profile.dead_zone_far) * small + profile.dead_zone_far) * width
        return cls(mean, dead, width)

    def edges(self) -> np.ndarray:
        """Borders (n, 2 BINS + 2) of the bins that have a symbol, less the centre; the outer ones are open."""
        offsets = self.dead[:, None] + np.arange(BINS) * self.width
        open_end = np.full((len(self.dead), 1), 2.0**40)
        return np.concatenate((-open_end, -offsets[:, ::-1], offsets, open_end), axis=1)

    def bins(self, z: np.ndarray) -> np.ndarray:
        """The bin (n,) of each coefficient, however far."""
        error = z - self.centre
        far = np.abs(error)
        size = np.where(far < self.dead, 0, np.floor((far - self.dead) / self.width) + 1)
        return np.where(error < 0, -size, size).astype(np.int64)

    def cells(self, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (n,) of these bins, rounded to whole grid steps."""
        near = self.dead + (np.abs(bins) - 1) * self.width
        far = near + self.width
        low = np.where(bins == 0, -self.dead, np.where(bins > 0, near, -far))
        high = np.where(bins == 0, self.dead, np.where(bins > 0, far, -near))
        return np.rint(self.centre + low), np.rint(self.centre + high)
