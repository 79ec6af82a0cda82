"""Are posterior samples as spread out as they are wrong? The codec's laws live on their variance."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from psc_core.transforms import colour_matrix, dct_matrix

SIGMA_START = 20.0
SIGMA_END = 0.02
CHROMA_PENALTY = 2.0


class LowFrequencies:
    """H of a square window: its `rows` lowest DCT coefficients, chroma ranked as if finer than luma."""

    def __init__(self, size: int, rows: int) -> None:
        frequency = np.hypot(*np.mgrid[:size, :size])
        rank = np.stack([frequency, CHROMA_PENALTY * frequency + 1, CHROMA_PENALTY * frequency + 1])
        chosen = np.zeros(rank.size, bool)
        chosen[np.argsort(rank, axis=None, kind="stable")[:rows]] = True
        self.mask = torch.from_numpy(chosen.reshape(rank.shape))
        self.colour = torch.from_numpy(colour_matrix()).float()
        self.basis = torch.from_numpy(dct_matrix(size)).float()

    def measure(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Hx, zero where nothing is measured: (N, 3, H, W) in the DCT domain."""
        rotated = torch.einsum("kc,nchw->nkhw", self.colour, x_NCHW)
        return (self.basis @ rotated @ self.basis.T) * self.mask

    def enforce(self, x_NCHW: torch.Tensor, y_NCHW: torch.Tensor) -> torch.Tensor:
        """The nearest image with Hx = y: x + Hᵀ(y − Hx)."""
        missing = self.basis.T @ (y_NCHW - self.measure(x_NCHW)) @ self.basis
        return x_NCHW + torch.einsum("kc,nkhw->nchw", self.colour, missing)


def posterior_samples(
    prior: Any, operator: LowFrequencies, y_NCHW: torch.Tensor, *, steps: int, generator: torch.Generator
) -> torch.Tensor:
    """One sample of p(x | Hx = y) for each y: DDIM with projection (DDRM with η = 0, Kawar et al. 2022)."""
    ramp = torch.linspace(0, 1, steps)
    sigmas = [
        *(SIGMA_START ** (1 / 7) + ramp * (SIGMA_END ** (1 / 7) - SIGMA_START ** (1 / 7))).pow(7).tolist(),
        0.0,
    ]
    x = operator.enforce(torch.zeros_like(y_NCHW), y_NCHW)
    x = x + sigmas[0] * torch.randn(y_NCHW.shape, generator=generator)
    for sigma, following in pairwise(sigmas):
        clean = operator.enforce(prior.denoise(x, sigma), y_NCHW)
        x = clean + following * (x - clean) / sigma
    return x


@torch.no_grad()
def calibration(
    prior: Any, x_NCHW: torch.Tensor, *, rows: int, samples: int = 8, steps: int = 12, seed: int = 0
) -> dict[str, float]:
    """Squared error of the samples' mean against what their spread promises.

    x: windows, float32 (N, 3, S, S) in [-1, 1]. `ratio` is E|x − mean|² over (1 + 1/samples) of the unbiased
    sample variance: 1 when x could be one more sample, above 1 when the prior is over-confident. `psnr` (dB)
    is the mean's.
    """
    operator = LowFrequencies(x_NCHW.shape[-1], rows)
    generator = torch.Generator().manual_seed(seed)
    y = operator.measure(x_NCHW)
    drawn = torch.stack(
        [posterior_samples(prior, operator, y, steps=steps, generator=generator) for _ in range(samples)]
    )
    error = (drawn.mean(0) - x_NCHW).square().mean(dim=(1, 2, 3))
    promised = drawn.var(0, unbiased=True).mean(dim=(1, 2, 3)) * (1 + 1 / samples)
    return {
        "rows": rows,
        "ratio": round(float(error.mean() / promised.mean()), 3),
        "median_ratio": round(float((error / promised).median()), 3),
        "psnr": round(float(10 * torch.log10(4 / error.mean())), 3),
    }
