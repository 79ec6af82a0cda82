"""Pseudo-inverse-guided diffusion (Song et al. 2023, Algorithm 1): high perceptual quality, by gradients, in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from psc_core.samplers.ddrm import Denoise, Noise

Residual = Callable[[Tensor], Tensor]


def pigdm(
    denoise: Denoise,
    residual: Residual,
    noise: Noise,
    sigmas: Sequence[float],
    eta: float = 1.0,
    unguided_tail: int = 0,
) -> Tensor:
    """One sample of p(x | Hx = y) a row of the batch.

    The published step is variance-preserving, x_s = sqrt(a_s) x0 + ... + sqrt(a_t) g with g the gradient by the
    VP x_t; in variance-exploding terms, x / sqrt(a), that is x0 + sqrt(1 + sigma_s^2) Jt Ht (y - H x0).

    Args:
        denoise: differentiable (x_t, sigma) -> E[x | x_t].
        residual: x0 -> Ht (y - H x0), not differentiated.
        unguided_tail: how many last steps run without guidance (5 for Latent-PSC).
    """
    x = noise(0) * float(np.float32(sigmas[0]))
    levels = list(zip(sigmas, [*sigmas[1:], 0.0], strict=True))
    for step, (sigma, following) in enumerate(levels):
        guided = step < len(levels) - unguided_tail
        with torch.enable_grad():
            x = x.detach().requires_grad_(guided)
            x0 = denoise(x, sigma)
            pull = residual(x0.detach()) if guided else None
            gradient = torch.autograd.grad((x0 * pull).sum(), x)[0] if pull is not None else None
        x, x0 = x.detach(), x0.detach()
        mean = x0 if gradient is None else x0 + gradient * (1 + following * following) ** 0.5
        if not following:
            return mean
        ratio = following * following / (sigma * sigma)
        fresh = eta * following * (1 - ratio) ** 0.5
        kept = (following * following - fresh * fresh) ** 0.5
        x = mean + kept / sigma * (x - x0) + fresh * noise(step + 1)
    raise AssertionError("a schedule holds at least one level")
