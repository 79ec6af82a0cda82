"""What coefficients of a window basis spread before anything is known: the power law of photographs, or of latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed, transcendental
from psc_core.windows import WindowBasis

Law = tuple[tuple[float, float, float], ...]
"""Of each channel of pixels: variance of DC, and gain and slope of all else."""
PHOTO_LAW: Law = ((606.0, 32.0, 2.15), (101.0, 2.8, 2.2), (43.0, 1.75, 2.25))


_LATENT_LAW = (30.0, 3.3, 1.6)


def initial_variance(basis: WindowBasis, device: torch.device | str, law: Law = PHOTO_LAW) -> Tensor:
    """Variance (K,) before anything is known: a 1/f^p law of photographs, or of latents, in squared grid steps.

    Photographs: fitted to DCT windows of 32 px, luma 32 r^-2.15 and two chromas, DC apart; scaled by area for other
    windows. Latents: of about unit variance, and flatter; what a law of so few numbers misses, the scales that a stage
    sends for each class correct.
    """
    size, reach = basis.window, 32.0 if basis.channels == 3 else 8.0
    r = basis.radius
    table = []
    for dc, gain, slope in law if basis.channels == 3 else [_LATENT_LAW] * basis.channels:
        ring = [
            dc if k == 0 else gain * transcendental.power(float(k) * reach / size, -slope) for k in range(r.max() + 1)
        ]
        table.append(np.array(ring)[r] * (size * size / (reach * reach)))
    variance = torch.from_numpy(np.stack(table)) * 2.0 ** (2 * fixed.PIXEL_BITS)
    return variance[:, None, :].expand(basis.shape).reshape(-1).to(device)
