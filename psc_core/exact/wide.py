"""Linear layers, attention and activations of 16 bits and more, by float64 sums of whole numbers.

For a text encoder, which runs once a prompt: 8 bits would cost accuracy there and win nothing. Tokens are (T, C)
float32. Sums stay below 2^19 x 2^15 x C < 2^53 up to C = 2^19.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from psc_core.exact import fixed, transcendental
from psc_core.exact.integers import SIGMOID_MAX, SIGMOID_STEPS, nonzero, sigmoid_table
from psc_core.exact.transformer import GELU_MAX, GELU_STEPS, normal_cdf_table

CODE_MAX = 2**19 - 1
WEIGHT_MAX = 2**15 - 1
EXP_STEPS, EXP_MAX = 256, 20
_SHARES = 2.0**20
"""A softmax weight is a whole number of 2^-20 of its row's largest."""


class WideLinear:
    """A linear layer: weights of 16 bits with a scale an output channel, inputs of 20 bits with a scale a token."""

    def __init__(self, layer: nn.Linear) -> None:
        weight = layer.weight.detach().cpu().float()
        peak = nonzero(weight.abs().amax(dim=1))
        self.ints = (weight * (torch.full_like(peak, WEIGHT_MAX) / peak)[:, None]).round().to(torch.int16)
        self.unit = peak.double() / torch.full_like(peak, WEIGHT_MAX).double()
        self.bias = torch.zeros_like(peak).double() if layer.bias is None else layer.bias.detach().cpu().double()

    def __call__(self, x_TC: Tensor) -> Tensor:
        codes, unit = _codes(x_TC, dim=1)
        sums = fixed.matmul(codes, self.ints.double().T)
        y = sums * unit
        y = y * self.unit
        return (y + self.bias).float()

    def to(self, device: torch.device | str) -> None:
        self.ints, self.unit, self.bias = (t.to(device) for t in (self.ints, self.unit, self.bias))

    def state(self) -> list[Tensor]:
        return [self.ints, self.unit, self.bias]


def attend_widely(q_HTC: Tensor, k_HTC: Tensor, v_HTC: Tensor, *, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(C)) v for H heads over T tokens; ``causal``: a token sees itself and those before."""
    (q, q_unit), (k, k_unit), (v, v_unit) = _codes(q_HTC, dim=2), _codes(k_HTC, dim=2), _codes(v_HTC, dim=1)
    logits = fixed.matmul(q, k.transpose(1, 2)) * q_unit
    logits = logits * k_unit.transpose(1, 2)
    logits = logits * float(1 / np.sqrt(q_HTC.shape[2]))
    if causal:
        place = torch.arange(logits.shape[1], dtype=torch.int64, device=logits.device)
        logits = logits.masked_fill(place[None, :] > place[:, None], -torch.inf)
    below = (logits.amax(dim=2, keepdim=True) - logits).clamp(max=EXP_MAX)
    shares = (interpolate(exp_table(str(below.device)), below * EXP_STEPS) * _SHARES).round()
    mean = fixed.matmul(shares, v) / fixed.total(shares, dim=2)[:, :, None]
    return (mean * v_unit).float()


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), the sigmoid interpolated between the points of its table."""
    place = (x.double() * (1.702 * SIGMOID_STEPS)).clamp(-SIGMOID_MAX, SIGMOID_MAX) + SIGMOID_MAX
    return (x.double() * interpolate(sigmoid_table(str(x.device)).double(), place)).float()


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), Phi interpolated between the points of its table."""
    place = (x.double() * GELU_STEPS).clamp(-GELU_MAX, GELU_MAX) + GELU_MAX
    return (x.double() * interpolate(normal_cdf_table(str(x.device)).double(), place)).float()


@cache
def exp_table(device: str = "cpu") -> Tensor:
    """e^(-i / 256) for i up to 20 x 256, float64."""
    values = [transcendental.exp(-i / EXP_STEPS) for i in range(EXP_STEPS * EXP_MAX + 1)]
    return torch.tensor(values, dtype=torch.float64, device=device)


def interpolate(table: Tensor, place: Tensor) -> Tensor:
    """Values at ``place`` (float64, from 0 to the table's last index), linear between two entries."""
    low = place.floor()
    index = low.to(torch.int32).flatten()
    first = table.index_select(0, index)
    second = table.index_select(0, (index + 1).clamp(max=len(table) - 1))
    rise = (second - first).view_as(place) * (place - low)
    return first.view_as(place) + rise


def _codes(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """x as 20-bit integers (float64), and what one is worth along ``dim`` (kept, of size 1)."""
    peak = nonzero(x.abs().amax(dim=dim, keepdim=True))
    most = torch.full_like(peak, CODE_MAX)
    return (x * (most / peak)).round().double(), peak.double() / most.double()
