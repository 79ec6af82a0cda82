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

    Attributes:
        radius: rounded distance from DC of each coefficient of a window (w x w,), in half periods a window.
    """

    def __init__(self, channels: int, height: int, width: int, window: int, device: torch.device | str) -> None:
        self.channels, self.height, self.width, self.window = channels, height, width, window
        self.down, self.across = height // window, width // window
        self.shape = (channels, self.down * self.across, window * window)
        within = fixed_basis(self._within(window), device)
        self.within, self.within_t = within, within.T.contiguous()
        self.colour = fixed_basis(colour_matrix(), device) if channels == 3 else None
        self.radius = _radius(self._frequency(window))

    @staticmethod
    def _within(window: int) -> np.ndarray:
        """The basis of one row of a window: (coefficient, position)."""
        return dct_matrix(window)

    @staticmethod
    def _frequency(window: int) -> np.ndarray:
        """Of each coefficient of a row, in half periods a window: (w,)."""
        return np.arange(window, dtype=np.float64)

    def analyse(self, grid_NCHW: Tensor) -> Tensor:
        """Integer images to integer coefficients."""
        x = grid_NCHW if self.colour is None else self._mix(self.colour, grid_NCHW)
        x = rounded(fixed.matmul(self._windows(x), self.within_t))
        return rounded(fixed.matmul(self.within, x)).reshape(len(x), *self.shape)

    def synthesize(self, coefficients: Tensor) -> Tensor:
        """The inverse: integer coefficients to integer images."""
        x = coefficients.reshape(-1, self.channels, self.down, self.across, self.window, self.window)
        x = rounded(fixed.matmul(self.within_t, x))
        x = rounded(fixed.matmul(x, self.within))
        x = self._image(x)
        return x if self.colour is None else self._mix(self.colour.T, x)

    def _windows(self, x_NCHW: Tensor) -> Tensor:
        x = x_NCHW.reshape(-1, self.channels, self.down, self.window, self.across, self.window)
        return x.permute(0, 1, 2, 4, 3, 5).contiguous()

    def _image(self, windows: Tensor) -> Tensor:
        return windows.permute(0, 1, 2, 4, 3, 5).reshape(-1, self.channels, self.height, self.width)

    def _mix(self, matrix: Tensor, x: Tensor) -> Tensor:
        return rounded(fixed.matmul(matrix, x.reshape(len(x), self.channels, -1))).reshape(x.shape)


def fixed_basis(matrix: np.ndarray, device: torch.device | str) -> Tensor:
    """A matrix of a basis in whole numbers of 2^-20."""
    return fixed.to_grid(torch.from_numpy(matrix), _BASIS_BITS).to(device)


def rounded(product: Tensor) -> Tensor:
    """Of a fixed-point basis and integers: integers again, in its place."""
    return product.mul_(2.0**-_BASIS_BITS).round_()


def _radius(frequency: np.ndarray) -> np.ndarray:
    squares = frequency * frequency
    return np.rint(np.sqrt(squares[:, None] + squares[None, :])).astype(np.int64).reshape(-1)
