"""Orthonormal bases with entries that are the same on every machine: the DCT and a decorrelating colour transform."""

from __future__ import annotations

from functools import cache

import numpy as np

from psc_core.exact.transcendental import cos_pi


@cache
def dct_matrix(size: int) -> np.ndarray:
    """The orthonormal DCT-II, (frequency, position) float64, entries the same everywhere."""
    cosines = np.array([cos_pi(k, 2 * size) for k in range(4 * size)])
    k, n = np.arange(size)[:, None], np.arange(size)[None, :]
    matrix = cosines[k * (2 * n + 1) % (4 * size)] * np.sqrt(2.0 / size)
    matrix[0] *= np.sqrt(0.5)
    return matrix


@cache
def dct_4_matrix(size: int) -> np.ndarray:
    """The orthonormal DCT-IV, (frequency, position) float64, entries the same everywhere."""
    cosines = np.array([cos_pi(k, 4 * size) for k in range(8 * size)])
    odd = 2 * np.arange(size) + 1
    return cosines[odd[:, None] * odd[None, :] % (8 * size)] * np.sqrt(2.0 / size)


def colour_matrix() -> np.ndarray:
    """Orthonormal luma, blue-yellow and red-green from RGB: (3, 3) float64."""
    root2, root3, root6 = np.sqrt(2.0), np.sqrt(3.0), np.sqrt(6.0)
    return np.array(
        [
            [1 / root3, 1 / root3, 1 / root3],
            [-1 / root6, -1 / root6, 2 / root6],
            [1 / root2, -1 / root2, 0.0],
        ]
    )
