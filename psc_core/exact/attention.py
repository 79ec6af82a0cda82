"""Scaled dot-product attention in exact sums: queries, keys, values and weights are integers.

Queries and keys take 8 bits with a scale a token, values 8 bits with a scale a channel, weights 16 bits of their row's
largest. 8 bits are too few for the weights: where attention is spread over thousands of keys, most of them would
vanish (Q-Diffusion, Li et al. 2023, section 4.2, keeps softmax at 16 bits as well).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed, transcendental
from psc_core.exact.integers import Backend, nonzero

CODE_MAX = 127
WEIGHT_LEVELS = 65535
EXP_STEPS = 256
EXP_MAX = 12 * EXP_STEPS
"""e^-12 of 65535 is below one half."""
_SCORES_AT_ONCE = 1 << 20


@cache
def exp_table(device: str = "cpu") -> Tensor:
    """round(65535 e^(-i / 256)) for i = 0..3072, as float32; the last is zero."""
    values = [round(WEIGHT_LEVELS * transcendental.exp(-i / EXP_STEPS)) for i in range(EXP_MAX + 1)]
    return torch.tensor(values, dtype=torch.float32, device=device)


def codes(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """x as integers within +-127, and what one is worth along ``dim`` (kept, of size 1). All float32."""
    peak = nonzero(x.abs().amax(dim=dim, keepdim=True))
    return (x * (torch.full_like(peak, CODE_MAX) / peak)).round(), peak * float(np.float32(1 / CODE_MAX))


def softmax_weights(logits: Tensor) -> Tensor:
    """Softmax over the last dimension before its division: integers 0..65535, the row's largest 65535 (float32)."""
    below = logits.amax(dim=-1, keepdim=True) - logits
    index = (below * EXP_STEPS).round().clamp(max=EXP_MAX).to(torch.int32)
    return exp_table(str(logits.device)).index_select(0, index.flatten()).view_as(logits)


def attend(backend: Backend, q_BTC: Tensor, k_BSC: Tensor, v_BSC: Tensor, *, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(C)) v for B heads, T queries and S keys: float32 (B, T, C).

    ``causal``: a query sees the keys up to its own place alone (then T = S).
    """
    k_codes, k_unit = codes(k_BSC, dim=2)
    average = _averaging(backend, *codes(v_BSC, dim=1))
    q_codes, q_unit = codes(q_BTC, dim=2)
    q_unit = q_unit * float(np.float32(1 / np.sqrt(q_BTC.shape[2])))
    keys, units = k_codes.transpose(1, 2), k_unit.transpose(1, 2)
    rows = max(1, _SCORES_AT_ONCE // (k_BSC.shape[0] * k_BSC.shape[1]))
    parts = []
    for start in range(0, q_BTC.shape[1], rows):
        part = slice(start, start + rows)
        logits = backend.bmm(q_codes[:, part], keys).float() * q_unit[:, part]
        logits = logits * units
        if causal:
            logits = logits.masked_fill(_future(start, logits), -torch.inf)
        parts.append(average(softmax_weights(logits)))
    return torch.cat(parts, dim=1)


def _averaging(backend: Backend, v_codes: Tensor, v_unit: Tensor) -> Callable[[Tensor], Tensor]:
    """Weights (B, T, S) -> the weighted means of values, summed exactly and divided once.

    On a CPU by one float64 product (65535 x 127 x keys is far below 2^53) that sums the weights as well; elsewhere,
    where float64 may be slow, by two 8-bit halves of the weights.
    """
    if v_codes.device.type == "cpu":
        values = torch.cat((v_codes, torch.ones_like(v_codes[:, :, :1])), dim=2).double()

        def at_once(weights_BTS: Tensor) -> Tensor:
            sums = fixed.matmul(weights_BTS.double(), values)
            return (sums[:, :, :-1] / sums[:, :, -1:]).float() * v_unit

        return at_once

    def in_halves(weights_BTS: Tensor) -> Tensor:
        high = (weights_BTS * 2.0**-8).floor()
        low = weights_BTS - high * 256.0
        sums = backend.bmm(high, v_codes).double() * 256.0 + backend.bmm(low, v_codes).double()
        mean = sums / weights_BTS.double().sum(dim=2, keepdim=True)
        return mean.float() * v_unit

    return in_halves


def _future(start: int, logits: Tensor) -> Tensor:
    rows = torch.arange(start, start + logits.shape[1], dtype=torch.int64, device=logits.device)
    return torch.arange(logits.shape[2], dtype=torch.int64, device=logits.device)[None, :] > rows[:, None]
