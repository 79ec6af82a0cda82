"""Bands of window-DCT coefficients: one colour, one ring of frequencies, one variance of what is still unknown."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed
from psc_core.spectrum import initial_variance
from psc_core.windows import WindowBasis

_RINGS = (0, 1, 2, 3, 5, 8, 12, 18, 26)
"""Where rings begin, as distances from DC in windows of 32."""
_ERROR_BITS = 10
_ERROR_LIMIT = 128.0
"""A truth's coefficient is at most 32 sqrt(3) in windows of 32: squares then sum exactly over 2^19 coefficients."""


class Bands:
    """Coefficients sorted by band, within it by frequency, then window: neighbours lie in different windows."""

    def __init__(self, basis: WindowBasis) -> None:
        self.basis = basis
        channels, windows, frequencies = basis.shape
        ring = np.searchsorted(_RINGS, basis.radius * 32 // basis.window, side="right") - 1
        of = np.broadcast_to((np.arange(channels)[:, None] * len(_RINGS) + ring)[:, :, None], self._frequency_major)
        place = np.arange(channels * windows * frequencies).reshape(basis.shape).transpose(0, 2, 1)
        order = np.argsort(of.reshape(-1), kind="stable")
        self.count = channels * len(_RINGS)
        self.places = torch.from_numpy(np.ascontiguousarray(place.reshape(-1)[order]))
        self.starts = np.searchsorted(of.reshape(-1)[order], np.arange(self.count + 1))
        self.sizes = self.starts[1:] - self.starts[:-1]
        self.back = torch.from_numpy(np.argsort(self.places.numpy(), kind="stable"))

    @property
    def _frequency_major(self) -> tuple[int, int, int]:
        channels, windows, frequencies = self.basis.shape
        return channels, frequencies, windows

    def analyse(self, x_NCHW: Tensor) -> np.ndarray:
        """Images within +-8 to sorted coefficients (N, K): whole numbers on the pixel grid, float64."""
        z = self.basis.analyse(fixed.to_grid(x_NCHW)).flatten(1)
        return z.index_select(1, self.places.to(z.device)).cpu().numpy()

    def synthesize(self, z_NK: np.ndarray, device: torch.device) -> Tensor:
        """Sorted coefficients, below 2^23 in size, to float32 images: sums of 64 x 64 of them stay below 2^53."""
        z = torch.from_numpy(z_NK).to(device).index_select(1, self.back.to(device))
        return fixed.from_grid(self.basis.synthesize(z))

    def spread(self, of_bands: np.ndarray) -> np.ndarray:
        """A value a band (..., bands) to a value a coefficient (..., K)."""
        return np.repeat(of_bands, self.sizes, axis=-1)

    def mean_square(self, error_NK: np.ndarray) -> np.ndarray:
        """Mean square of every band in squared pixel units (N, bands), summed exactly; the encoder's alone."""
        limit = _ERROR_LIMIT * 2.0**_ERROR_BITS
        whole = np.clip(np.rint(error_NK * 2.0 ** (_ERROR_BITS - fixed.PIXEL_BITS)), -limit, limit)
        square = whole * whole
        parts = zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)
        sums = np.stack([square[:, a:b].sum(axis=1) for a, b in parts], axis=1)
        return sums / np.maximum(self.sizes, 1) * 2.0 ** (-2 * _ERROR_BITS)

    def photographs(self) -> np.ndarray:
        """Variance of every band (bands,), squared pixel units, before anything is known: the law of photographs."""
        law = initial_variance(self.basis, "cpu")[self.places].numpy()
        return self.mean_square(np.rint(np.sqrt(law))[None])[0]
