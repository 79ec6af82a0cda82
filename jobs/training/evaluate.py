"""Denoising PSNR over noise levels: the validation curve of a prior."""

from __future__ import annotations

import math

import torch
from torch import nn

from jobs.training.loss import denoise

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 3.0)


@torch.no_grad()
def denoising_psnr(
    model: nn.Module,
    x_NCHW: torch.Tensor,
    *,
    sigmas: tuple[float, ...] = SIGMAS,
    seed: int = 0,
    batch: int = 8,
) -> dict[float, float]:
    """PSNR in dB (peak 2, of the mean squared error over all images) of one-step denoising at each σ.

    x: float32 (N, 3, H, W) in [-1, 1]. The noise depends on the seed and σ's place only: models compare.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    curve = {}
    for index, sigma in enumerate(sigmas):
        generator = torch.Generator().manual_seed(1000 * seed + index)
        total = 0.0
        for x in x_NCHW.split(batch):
            y = x + sigma * torch.randn(x.shape, generator=generator)
            estimate = denoise(model, y.to(device), sigma).clamp(-1, 1).cpu()
            total += (estimate - x).square().sum().item()
        curve[sigma] = 10 * math.log10(4 / (total / x_NCHW.numel()))
    model.train(was_training)
    return curve
