"""Denoising PSNR over noise levels: the validation curve of a prior."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 3.0)


@torch.no_grad()
def denoising_psnr(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    x_NCHW: torch.Tensor,
    *,
    sigmas: tuple[float, ...] = SIGMAS,
    seed: int = 0,
    batch: int = 8,
) -> dict[float, float]:
    """PSNR in dB (peak 2, of the mean squared error over all images) of one-step denoising at each σ.

    denoise(y, σ): estimate of x from x + σ n, on any device. x: float32 (N, 3, H, W) in [-1, 1]. The noise
    depends on the seed and σ's place only, so that priors compare.
    """
    curve = {}
    for index, sigma in enumerate(sigmas):
        generator = torch.Generator().manual_seed(1000 * seed + index)
        total = 0.0
        for x in x_NCHW.split(batch):
            y = x + sigma * torch.randn(x.shape, generator=generator)
            total += (denoise(y, sigma).clamp(-1, 1).cpu() - x).square().sum().item()
        curve[sigma] = 10 * math.log10(4 / (total / x_NCHW.numel()))
    return curve
