"""EDM preconditioning around a network on 2x2-unshuffled pixels (Karras et al. 2022, table 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

SIGMA_DATA = 0.5
UNSHUFFLE = 2
LOG_SIGMA_MEAN = -0.9
LOG_SIGMA_STD = 1.5


def time_of(sigma_N: torch.Tensor) -> torch.Tensor:
    """What the network is told of σ: 250 (ln σ / 4 + 1.4)."""
    return 250.0 * (torch.log(sigma_N) / 4 + 1.4)


def scalings(sigma_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(c_skip, c_out, c_in), each (N, 1, 1, 1)."""
    sigma = sigma_N[:, None, None, None]
    total = torch.sqrt(sigma**2 + SIGMA_DATA**2)
    return (SIGMA_DATA / total) ** 2, sigma * SIGMA_DATA / total, 1 / total


def network(model: Callable[..., Any], y_NCHW: torch.Tensor, sigma_N: torch.Tensor) -> torch.Tensor:
    """F(unshuffled c_in y, time), shape (N, 12, H/2, W/2)."""
    _, _, c_in = scalings(sigma_N)
    x = F.pixel_unshuffle(c_in * y_NCHW, UNSHUFFLE)
    if x.device.type == "cpu":
        x = x.contiguous(memory_format=torch.channels_last)
    return model(x, time_of(sigma_N), return_dict=False)[0]


def denoise(model: Callable[..., Any], y_NCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[x | y = x + σ n] as the model sees it, shape and range of y."""
    sigma_N = torch.full((len(y_NCHW),), sigma, device=y_NCHW.device)
    c_skip, c_out, _ = scalings(sigma_N)
    return c_skip * y_NCHW + c_out * F.pixel_shuffle(network(model, y_NCHW, sigma_N).float(), UNSHUFFLE)


def loss_of(model: Callable[..., Any], x_NCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mean squared error of F against its target: EDM's loss with weight 1 / c_out².

    σ is stratified over the batch, which lowers the gradient's variance without changing the law.
    """
    count = len(x_NCHW)
    uniform = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    normal = math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.999999, 0.999999))
    sigma_N = torch.exp(LOG_SIGMA_MEAN + LOG_SIGMA_STD * normal).to(x_NCHW.device)
    noise = torch.randn(x_NCHW.shape, generator=generator).to(x_NCHW.device)
    y = x_NCHW + sigma_N[:, None, None, None] * noise
    c_skip, c_out, _ = scalings(sigma_N)
    target = F.pixel_unshuffle((x_NCHW - c_skip * y) / c_out, UNSHUFFLE)
    return F.mse_loss(network(model, y, sigma_N).float(), target)
