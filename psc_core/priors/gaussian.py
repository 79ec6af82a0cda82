"""An analytic stationary Gaussian prior: the test oracle. Its posterior and its KLT are known in closed form.

x = mean + C^T diag(sqrt(S)) n with C the orthonormal 2-D DCT of the canvas times an orthonormal colour transform:
stationary up to reflection at the borders. Its denoiser is the Wiener filter S / (S + sigma^2) in that basis, computed
with fixed-point sums, so it is exact arithmetic too.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed
from psc_core.exact.transcendental import power
from psc_core.priors.base import Prior
from psc_core.transforms import colour_matrix, dct_matrix

_BASIS_BITS = 20


class GaussianPrior(Prior):
    """Power-law spectrum: S(f) ~ (1 + (f / corner)^2)^-slope, f in cycles a pixel; less in the two chromas."""

    orientations = 4

    def __init__(
        self,
        *,
        corner: float = 0.02,
        slope: float = 1.5,
        deviation: float = 0.5,
        chroma: float = 0.3,
        arithmetic: str = "exact",
        device: str = "cpu",
    ) -> None:
        self.name = "gaussian"
        self.arithmetic = arithmetic
        self.device = torch.device(device)
        self.sigma_min, self.sigma_max = 0.002, 200.0
        self.settings = {"corner": corner, "slope": slope, "deviation": deviation, "chroma": chroma}
        self.fingerprint = hashlib.sha256(json.dumps(["gaussian", self.settings, arithmetic]).encode()).hexdigest()[:32]

    def spectrum(self, height: int, width: int) -> Tensor:
        """Prior variance of every DCT coefficient: (3, height, width) float64, mean pixel variance deviation^2."""
        known = self.shared.setdefault("spectra", {})
        if (height, width) not in known:
            known[height, width] = self._spectrum(height, width)
        return known[height, width]

    def _spectrum(self, height: int, width: int) -> Tensor:
        corner, chroma, deviation = (self.settings[key] for key in ("corner", "chroma", "deviation"))
        rows = torch.tensor([k / (2 * height) for k in range(height)], dtype=torch.float64, device="cpu")
        columns = torch.tensor([k / (2 * width) for k in range(width)], dtype=torch.float64, device="cpu")
        ratio = ((rows * rows)[:, None] + (columns * columns)[None, :]) / (corner * corner)
        shape = torch.tensor(
            [power(1.0 + v, -self.settings["slope"]) for v in ratio.flatten().tolist()],
            dtype=torch.float64,
            device="cpu",
        ).view(height, width)
        gains = torch.tensor([1.0, chroma * chroma, chroma * chroma], dtype=torch.float64, device="cpu")
        raw = gains[:, None, None] * shape
        total = math.fsum(raw.flatten().tolist())  # correctly rounded, in whatever order
        return (raw * (3 * height * width * (deviation * deviation) / total)).to(self.device)

    def _denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        spectrum = self.spectrum(*x_NCHW.shape[2:])
        coefficients = self.analyse(x_NCHW)
        return self.synthesize(coefficients * (spectrum / (spectrum + sigma * sigma)))

    def denoise_differentiably(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        self.count(len(x_NCHW))
        spectrum = self.spectrum(*x_NCHW.shape[2:])
        colour, rows, columns = (b * 2.0**-_BASIS_BITS for b in self._bases(*x_NCHW.shape[2:]))
        c = rows @ torch.einsum("kc,nchw->nkhw", colour, x_NCHW.double()) @ columns.T
        x = rows.T @ (c * (spectrum / (spectrum + sigma * sigma))) @ columns
        return torch.einsum("kc,nkhw->nchw", colour, x).float()

    def analyse(self, x_NCHW: Tensor) -> Tensor:
        """DCT coefficients, float64 (N, 3, H, W). Wide noise is on a coarser grid, so that sums stay exact."""
        colour, rows, columns = self._bases(*x_NCHW.shape[2:])
        x = torch.einsum("kc,nchw->nkhw", colour, _grid(x_NCHW)) * 2.0**-_BASIS_BITS
        x = torch.matmul(rows, _grid(x * _UNIT)) * 2.0**-_BASIS_BITS
        return torch.matmul(_grid(x * _UNIT), columns.T) * (2.0**-_BASIS_BITS * _UNIT)

    def synthesize(self, coefficients_NCHW: Tensor) -> Tensor:
        """Inverse of :meth:`analyse`, float32."""
        colour, rows, columns = self._bases(*coefficients_NCHW.shape[2:])
        x = torch.matmul(rows.T, _grid(coefficients_NCHW)) * 2.0**-_BASIS_BITS
        x = torch.matmul(_grid(x * _UNIT), columns) * 2.0**-_BASIS_BITS
        x = torch.einsum("kc,nkhw->nchw", colour, _grid(x * _UNIT)) * (2.0**-_BASIS_BITS * _UNIT)
        return x.float()

    def _bases(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(  # type: ignore[return-value]
            fixed.to_grid(torch.from_numpy(m), _BASIS_BITS).to(self.device)
            for m in (colour_matrix(), dct_matrix(height), dct_matrix(width))
        )


_UNIT = 2.0**-fixed.PIXEL_BITS


def _grid(x: Tensor) -> Tensor:
    # +-1024 covers x_t at the largest noise levels of tests: 2^24 x 2^20 x 512 terms = 2^53.
    return fixed.to_grid(x, limit=1024.0)


def sample_image(prior: GaussianPrior, height: int, width: int, seed: int) -> np.ndarray:
    """A draw from the prior as float64 (3, H, W): for tests, by numpy's generator."""
    n = np.random.default_rng(seed).standard_normal((1, 3, height, width))
    spectrum = prior.spectrum(height, width).cpu()
    return prior.synthesize((torch.from_numpy(n) * spectrum.sqrt()).to(prior.device))[0].double().cpu().numpy()
