"""The lapped basis: no function of it ends at a border, and fine detail is placed more finely than what is coarse.

Along each axis a window is two halves. A half has a lapped orthogonal transform (Malvar and Staelin 1989), as a DCT
after a rotation across each border (Tran, Liang, Tu 2003, type II); the means of the two halves are merged into the
window's mean and its slope. Of a row, coefficient 0 is the window's mean, 1 its slope, 2k and 2k + 1 frequency k of
the first and of the second half: what is coarse is as wide as windows, what is fine half as wide.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed
from psc_core.transforms import dct_4_matrix, dct_matrix
from psc_core.windows import WindowBasis, fixed_basis, rounded


class LappedBasis(WindowBasis):
    """Coefficients (N, C, windows, w x w) of images (N, C, H, W), w at least 4; only inner borders are lapped.

    Attributes:
        quarter: in which quarter of a window each of its coefficients lies, 0 also for means and slopes: (w x w,).
    """

    def __init__(self, channels: int, height: int, width: int, window: int, device: torch.device | str) -> None:
        super().__init__(channels, height, width, window, device)
        lap = fixed_basis(lap_matrix(window // 2), device)
        self._lap, self._lap_t = lap, lap.T.contiguous()
        second = np.arange(window) % 2 * (np.arange(window) >= 2)
        self.quarter = (2 * second[:, None] + second[None, :]).reshape(-1)

    @staticmethod
    def _within(window: int) -> np.ndarray:
        rows, h = np.zeros((window, window)), window // 2
        rows[0::2, :h] = rows[1::2, h:] = dct_matrix(h)
        rows[0], rows[1] = (rows[0] + rows[1]) * np.sqrt(0.5), (rows[0] - rows[1]) * np.sqrt(0.5)
        return rows

    @staticmethod
    def _frequency(window: int) -> np.ndarray:
        """Frequency k of a half lies between 2k and 2k + 1 of a window."""
        return np.concatenate(([0.0, 1.0], np.repeat(np.arange(2.0, window, 2.0), 2) + 0.5))

    def _windows(self, x_NCHW: Tensor) -> Tensor:
        return super()._windows(self._down(self._across(x_NCHW, self._lap_t), self._lap))

    def _image(self, windows: Tensor) -> Tensor:
        return self._across(self._down(super()._image(windows), self._lap_t), self._lap)

    def _across(self, x_NCHW: Tensor, lap: Tensor) -> Tensor:
        """The quarters of windows left and right of each border between halves, times ``lap``."""
        edge, out = self.window // 4, x_NCHW.clone()
        spans = x_NCHW[..., edge:-edge].unflatten(3, (-1, 2 * edge))
        out[..., edge:-edge] = rounded(fixed.matmul(spans, lap)).flatten(3)
        return out

    def _down(self, x_NCHW: Tensor, lap: Tensor) -> Tensor:
        """``lap`` times those above and below."""
        edge, out = self.window // 4, x_NCHW.clone()
        spans = x_NCHW[:, :, edge:-edge].unflatten(2, (-1, 2 * edge))
        out[:, :, edge:-edge] = rounded(fixed.matmul(lap, spans)).flatten(2, 3)
        return out


def lap_matrix(size: int) -> np.ndarray:
    """The rotation of ``size`` positions around a border, half of them on either side: (size, size) float64.

    Mirrored sums stay, mirrored differences are turned by J U J, U = (DCT-II)' DCT-IV, J reversal; so a flat row stays.
    """
    h = size // 2
    u, one = np.zeros((h, h)), np.eye(h)
    for second, fourth in zip(dct_matrix(h), dct_4_matrix(h), strict=True):
        u = u + second[:, None] * fourth[None, :]  # products and sums one by one: the same on every machine
    same, other = (one + u) * 0.5, (one - u) * 0.5
    upper = np.concatenate((same, other[:, ::-1]), axis=1)
    return np.concatenate((upper, upper[::-1, ::-1]))
