"""What is known around a coefficient tells how far it may lie from its posterior mean: activity comes in clusters.

The coefficients of a stage are measured in phases, so that each phase has measured neighbours on all sides, in
frequency and in place: a checkerboard (He et al. 2021) over the frequencies of a window's first halves, its negative in
the second ones. The mean of each window goes first, in the same pattern over the windows: see :mod:`.neighbours`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from psc_core.archive.cells import SIGNIFICANT
from psc_core.archive.lapped import LappedBasis
from psc_core.exact import transcendental

PHASES = 7
"""Three of window means, four of the other frequencies."""
_REACH = 2
"""In coefficients of a row: to the next frequency of either half."""
_GRID = 256.0
"""Errors are summed as whole numbers, in any order the same."""
_MOST = 64.0
_WORTH = 2.0
"""How many neighbours as large as expected the rest of the world is worth."""
_CLUSTER = 0.4
"""Deviation goes with this power of one more than the number of significant neighbours, and 3/4 of their error's."""
_ROOT_2 = 1.4142135623730951


def phase_of(basis: LappedBasis) -> np.ndarray:
    """The phase of every coefficient: (K,)."""
    down, across, side = basis.down, basis.across, basis.window
    board = np.arange(side) // 2 + np.arange(side) % 2
    phases = np.broadcast_to(3 + _parity(board, board), (basis.channels, down, across, side, side)).copy()
    phases[..., 0, 0] = np.minimum(_parity(np.arange(down), np.arange(across)), 2)
    return phases.reshape(-1)


def _parity(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """0 where row and column are even, 1 where both are odd, 2 where the column alone is, 3 where the row is."""
    return np.array([[0, 2], [3, 1]])[row[:, None] % 2, column[None] % 2]


def clustering(kind_BK: np.ndarray, basis: LappedBasis) -> np.ndarray:
    """Factor (B, K) of the deviation, by how many of a coefficient's neighbours in frequency and space are significant.

    Eight in frequency, four of the same frequency in the next windows.
    """
    shape = (-1, basis.channels, basis.down, basis.across, basis.window, basis.window)
    known = (kind_BK == SIGNIFICANT).astype(np.int32).reshape(shape)
    count = _box(known, 1) - known
    count[:, :, 1:] += known[:, :, :-1]
    count[:, :, :-1] += known[:, :, 1:]
    count[:, :, :, 1:] += known[:, :, :, :-1]
    count[:, :, :, :-1] += known[:, :, :, 1:]
    return _powers()[count].reshape(kind_BK.shape)


@cache
def _powers() -> np.ndarray:
    return np.array([transcendental.power(float(1 + n), _CLUSTER) for n in range(13)])


class Surroundings:
    """Errors of what a stage has measured so far, in standard deviations."""

    def __init__(self, canvases: int, basis: LappedBasis) -> None:
        self._shape = (canvases, basis.channels * basis.down * basis.across, basis.window, basis.window)
        self._errors = np.zeros(self._shape, dtype=np.float32)
        self._known = np.zeros(self._shape, dtype=np.float32)

    def factor(self) -> np.ndarray:
        """Of the deviation of every coefficient (B, K): how much larger the errors around it were than expected."""
        error, known = (_box(x, _REACH).astype(np.float64) for x in (self._errors, self._known))
        ratio = (error * (1.0 / _GRID) + _WORTH) / (known + _WORTH)
        root = np.sqrt(ratio)
        return (root * np.sqrt(root)).reshape(self._shape[0], -1)

    def measured(
        self, canvas: int, place: np.ndarray, bins: np.ndarray, deviation: np.ndarray, width: float, dead: np.ndarray
    ) -> None:
        """Note how far from zero the ``bins`` at ``place`` are; ``deviation`` is without any factor."""
        unit = deviation * (1.0 / _ROOT_2)  # the mean of |error| under a Laplace law
        inside = dead / unit
        within = inside / np.sqrt(inside * inside + 4.0)  # about the mean of |error| below ``dead``
        beyond = (dead + (bins - 0.5) * width) / unit
        error = np.minimum(np.where(bins == 0, within, beyond), _MOST)
        self._errors[canvas].reshape(-1)[place] = np.rint(error * _GRID)
        self._known[canvas].reshape(-1)[place] = 1.0


def _box(x: np.ndarray, reach: int) -> np.ndarray:
    """Sums over squares of frequencies up to ``reach`` away; of whole numbers, in any order the same."""
    for axis in (-2, -1):
        out = x.copy()
        for shift in range(1, reach + 1):
            near, far = [slice(None)] * x.ndim, [slice(None)] * x.ndim
            near[axis], far[axis] = slice(None, -shift), slice(shift, None)
            out[tuple(near)] += x[tuple(far)]
            out[tuple(far)] += x[tuple(near)]
        x = out
    return x
