"""Exact forms of diffusers' attention blocks: ``Attention``, ``BasicTransformerBlock``, ``Transformer2DModel``.

Tokens keep the layout of images, (N, H, W, C) float32, so that a linear layer is a 1x1 convolution.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psc_core.errors import InvalidPrior
from psc_core.exact import transcendental
from psc_core.exact.attention import attend
from psc_core.exact.integers import Backend, QuantizedWeight, nonzero
from psc_core.exact.layers import GroupNorm, convolution, convolve_finely, linear

TOKEN_MAX = 2**20 - 1
"""Squares of a token's values sum below 2^53 up to 8,192 channels."""
GELU_STEPS = 256
GELU_MAX = 6 * GELU_STEPS


@cache
def normal_cdf_table(device: str = "cpu") -> Tensor:
    """Phi(i / 256) for |i| <= 1536, float32."""
    root = float(np.sqrt(2.0))
    values = [(1 + transcendental.erf(i / GELU_STEPS / root)) / 2 for i in range(-GELU_MAX, GELU_MAX + 1)]
    return torch.tensor(values, dtype=torch.float64, device="cpu").float().to(device)


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), with Phi at the nearest 1/256."""
    index = (x * GELU_STEPS).round().clamp(-GELU_MAX, GELU_MAX).to(torch.int32) + GELU_MAX
    return x * normal_cdf_table(str(x.device)).index_select(0, index.flatten()).view_as(x)


class LayerNorm:
    """Layer normalization over channels; a token's mean and variance are sums of 20-bit integers."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        self.eps = layer.eps
        ones = torch.ones(layer.normalized_shape, dtype=torch.float32, device="cpu")
        self.gamma = ones if layer.weight is None else layer.weight.detach().cpu().float()
        self.beta = ones * 0 if layer.bias is None else layer.bias.detach().cpu().float()

    def __call__(self, x_NHWC: Tensor) -> Tensor:
        peak = nonzero(x_NHWC.abs().amax(dim=3, keepdim=True))
        t = (x_NHWC * (torch.full_like(peak, TOKEN_MAX) / peak)).round().double()
        count = torch.full_like(peak, x_NHWC.shape[3]).double()
        mean, square = (s.sum(dim=3, keepdim=True) / count for s in (t, t * t))
        unit = peak.double() / torch.full_like(peak, TOKEN_MAX).double()
        variance = (square - mean * mean).clamp(min=0) * (unit * unit)
        deviation = (variance + self.eps).sqrt()
        y = (x_NHWC - (mean * unit).float()) / deviation.float()
        y = y * self.gamma
        return y + self.beta

    def to(self, device: torch.device | str) -> None:
        self.gamma, self.beta = self.gamma.to(device), self.beta.to(device)

    def state(self) -> list[Tensor]:
        return [self.gamma, self.beta]


class Attention:
    """diffusers' ``Attention``, over the image's own tokens or over a context's."""

    def __init__(self, layer: Any, path: str) -> None:
        for name in ("spatial_norm", "norm_q", "norm_k", "norm_cross", "added_kv_proj_dim"):
            if getattr(layer, name, None) is not None:
                raise InvalidPrior(f"{path}.{name}: attention with {name} has no exact form")
        if not layer.scale_qk or layer.to_k is None:
            raise InvalidPrior(f"{path}: attention without scale or without keys has no exact form")
        self.heads = layer.heads
        self.norm = None if layer.group_norm is None else GroupNorm(layer.group_norm)
        self.q, self.k, self.v, self.out = (linear(m) for m in (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0]))
        self.residual = layer.residual_connection
        self.out_factor = float(np.float32(1 / layer.rescale_output_factor))

    def __call__(self, backend: Backend, x: Tensor, context: Tensor | None = None) -> Tensor:
        q = backend.quantize(x) if self.norm is None else self.norm.quantize(backend, x, activate=False)
        query = backend.conv(q, self.q)
        if context is None:
            key, value = backend.conv(q, self.k), backend.conv(q, self.v)
        else:
            key, value = (convolve_finely(backend, context, w) for w in (self.k, self.v))
        mixed = attend(backend, *(self._split(t) for t in (query, key, value)))
        h = mixed.unflatten(0, (len(x), self.heads)).transpose(1, 2).reshape(query.shape).contiguous()
        h = backend.conv(backend.quantize(h), self.out, residual_NHWC=x if self.residual else None)
        return h if self.out_factor == 1.0 else h * self.out_factor

    def _split(self, x_NHWC: Tensor) -> Tensor:
        """(N, H, W, C) to (N x heads, H x W, C / heads)."""
        n, height, width, channels = x_NHWC.shape
        tokens = x_NHWC.reshape(n, height * width, self.heads, channels // self.heads)
        return tokens.transpose(1, 2).flatten(0, 1).contiguous()


class FeedForward:
    """diffusers' ``FeedForward`` with GELU or GEGLU; what enters its second layer has a long tail and takes 16 bits."""

    def __init__(self, layer: Any, path: str) -> None:
        first, last = layer.net[0], layer.net[2]
        kind = type(first).__name__
        if kind not in ("GELU", "GEGLU") or getattr(first, "approximate", "none") != "none":
            raise InvalidPrior(f"{path}.net.0: {kind} has no exact form (known: GEGLU, and GELU not approximated)")
        self.gated = kind == "GEGLU"
        self.first, self.last = linear(first.proj), linear(last)

    def __call__(self, backend: Backend, x: Tensor, residual: Tensor) -> Tensor:
        h = backend.conv(backend.quantize(x), self.first)
        if self.gated:
            value, gate = h.chunk(2, dim=3)
            h = value * gelu(gate)
        else:
            h = gelu(h)
        return convolve_finely(backend, h, self.last, residual)


class TransformerBlock:
    """diffusers' ``BasicTransformerBlock``: attention to itself, to the context, and a feed-forward."""

    def __init__(self, layer: Any, path: str) -> None:
        if layer.norm_type != "layer_norm" or layer.pos_embed is not None or hasattr(layer, "fuser"):
            raise InvalidPrior(f"{path}: norm_type={layer.norm_type!r}, positions or a fuser have no exact form")
        if layer.only_cross_attention:
            raise InvalidPrior(f"{path}: only_cross_attention has no exact form")
        self.norm1, self.norm3 = LayerNorm(layer.norm1), LayerNorm(layer.norm3)
        self.attn1 = Attention(layer.attn1, f"{path}.attn1")
        self.norm2 = None if layer.attn2 is None else LayerNorm(layer.norm2)
        self.attn2 = None if layer.attn2 is None else Attention(layer.attn2, f"{path}.attn2")
        self.ff = FeedForward(layer.ff, f"{path}.ff")

    def __call__(self, backend: Backend, x: Tensor, context: Tensor | None) -> Tensor:
        x = self.attn1(backend, self.norm1(x)) + x
        if self.attn2 is not None and self.norm2 is not None:
            x = self.attn2(backend, self.norm2(x), context) + x
        return self.ff(backend, self.norm3(x), x)


class Transformer2D:
    """diffusers' ``Transformer2DModel`` over continuous inputs."""

    def __init__(self, layer: Any, path: str) -> None:
        if not layer.is_input_continuous:
            raise InvalidPrior(f"{path}: a transformer over patches or codes has no exact form")
        self.norm = GroupNorm(layer.norm)
        self.enter, self.leave = _projection(layer.proj_in, path), _projection(layer.proj_out, path)
        self.blocks = [
            TransformerBlock(b, f"{path}.transformer_blocks.{i}") for i, b in enumerate(layer.transformer_blocks)
        ]

    def __call__(self, backend: Backend, x: Tensor, context: Tensor | None) -> Tensor:
        h = backend.conv(self.norm.quantize(backend, x, activate=False), self.enter)
        for block in self.blocks:
            h = block(backend, h, context)
        return convolve_finely(backend, h, self.leave, x)


def _projection(layer: Any, path: str) -> QuantizedWeight:
    return linear(layer) if isinstance(layer, nn.Linear) else convolution(layer, path)
