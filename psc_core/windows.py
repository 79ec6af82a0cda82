"""The window basis: an orthonormal colour transform and a DCT inside windows of w x w, in fixed point."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed
from psc_core.transforms import colour_matrix, dct_matrix

_BASIS_BITS = 20


class WindowBasis:
    """Coefficients (N, C, windows, w x w) of images (N, C, H, W); both integers on the pixel grid, as float64.

    |x| <= 8 gives coefficients up to 8 w sqrt(3), so sums stay below 2^17 w sqrt(3) x 2^20 x w < 2^53 up to w = 64.
    """

    def __init__(self, channels: int, height: int, width: int, window: int, device: torch.device | str) -> None:
        self.channels, self.height, self.width, self.window = channels, height, width, window
        self.down, self.across = height // window, width // window
        self.shape = (channels, self.down * self.across, window * window)
        dct = _basis(dct_matrix(window), device)
        self.dct, self.dct_t = dct, dct.T.contiguous()
        self.colour = _basis(colour_matrix(), device) if channels == 3 else None

    def analyse(self, grid_NCHW: Tensor) -> Tensor:
        """Integer images to integer coefficients."""
        x = grid_NCHW if self.colour is None else self._mix(self.colour, grid_NCHW)
        x = _round(fixed.matmul(self._windows(x), self.dct_t))
        return _round(fixed.matmul(self.dct, x)).reshape(len(x), *self.shape)

    def synthesize(self, coefficients: Tensor) -> Tensor:
        """The inverse: integer coefficients to integer images."""
        x = coefficients.reshape(-1, self.channels, self.down, self.across, self.window, self.window)
        x = _round(fixed.matmul(self.dct_t, x))
        x = _round(fixed.matmul(x, self.dct))
        x = x.permute(0, 1, 2, 4, 3, 5).reshape(-1, self.channels, self.height, self.width)
        return x if self.colour is None else self._mix(self.colour.T, x)

    def _windows(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, self.channels, self.down, self.window, self.across, self.window)
        return x.permute(0, 1, 2, 4, 3, 5).contiguous()

    def _mix(self, matrix: Tensor, x: Tensor) -> Tensor:
        return _round(fixed.matmul(matrix, x.reshape(len(x), self.channels, -1))).reshape(x.shape)


def radius(window: int) -> np.ndarray:
    """Rounded distance of each frequency (w x w,) from DC, as int."""
    k = np.arange(window)
    return np.rint(np.sqrt((k[:, None] ** 2 + k[None, :] ** 2).astype(np.float64))).astype(np.int64).reshape(-1)


def _basis(matrix: np.ndarray, device: torch.device | str) -> Tensor:
    return fixed.to_grid(torch.from_numpy(matrix), _BASIS_BITS).to(device)


def _round(x: Tensor) -> Tensor:
    return (x * 2.0**-_BASIS_BITS).round()
