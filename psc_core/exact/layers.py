"""Exact forms of the layers of a diffusers UNet. Tensors are NHWC float32; sums are integers (see :mod:`.integers`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psc_core.errors import InvalidPrior
from psc_core.exact.embedding import Embedding, VectorLinear
from psc_core.exact.integers import Backend, QuantizedWeight, norm_affine, quantize_weight, silu


def convolution(layer: nn.Conv2d, path: str) -> QuantizedWeight:
    """Integer weights of a plain convolution; refuses dilation, groups and odd paddings."""
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    square = len({*layer.kernel_size}) == len({*layer.stride}) == 1
    if not (plain and square and isinstance(layer.padding, tuple) and len({*layer.padding}) == 1):
        raise InvalidPrior(f"{path}: {layer} has no exact form (only plain square convolutions have one)")
    return quantize_weight(layer.weight, layer.bias, layer.stride[0], int(layer.padding[0]))


def linear(layer: nn.Linear) -> QuantizedWeight:
    """A linear layer as a 1x1 convolution over tokens."""
    return quantize_weight(layer.weight[:, :, None, None], layer.bias)


def convolve_finely(
    backend: Backend, x: Tensor, weight: QuantizedWeight, residual_NHWC: Tensor | None = None
) -> Tensor:
    """Convolve activations of about 16 bits, as two of 8: for the few layers whose input has a long tail.

    Measured on the bundled prior at sigma = 0.05: 8 bits in the shortcuts alone cost 0.07 dB.
    """
    high, low = backend.quantize_finely(x)
    rest = backend.conv(low, weight, bias_O=torch.zeros_like(weight.bias_O), residual_NHWC=residual_NHWC)
    return backend.conv(high, weight, residual_NHWC=rest)


class GroupNorm:
    """Group normalization; its affine map may be changed by a time embedding."""

    def __init__(self, layer: nn.GroupNorm) -> None:
        self.groups, self.eps = layer.num_groups, layer.eps
        ones = torch.ones(layer.num_channels, dtype=torch.float32, device="cpu")
        self.gamma = (ones if layer.weight is None else layer.weight.detach().cpu()).double()
        self.beta = (ones * 0 if layer.bias is None else layer.bias.detach().cpu()).double()

    def quantize(
        self, backend: Backend, x: Tensor, affine: tuple[Tensor, Tensor] | None = None, activate: bool = True
    ) -> Any:
        """Normalize, apply SiLU if asked, and quantize to int8."""
        gamma, beta = affine or (self.gamma, self.beta)
        return backend.norm_quantize(x, gamma, beta, self.groups, self.eps, activate)

    def activate(self, x: Tensor) -> Tensor:
        """Normalize and apply SiLU, without quantizing."""
        scale, shift = norm_affine(x, self.gamma, self.beta, self.groups, self.eps)
        y = x * scale[:, None, None, :]
        return silu(y + shift[:, None, None, :])

    def to(self, device: torch.device | str) -> None:
        self.gamma, self.beta = self.gamma.to(device), self.beta.to(device)

    def state(self) -> list[Tensor]:
        return [self.gamma, self.beta]


class Resnet:
    """diffusers' ``ResnetBlock2D``."""

    def __init__(self, block: Any, path: str) -> None:
        if type(block.nonlinearity).__name__ != "SiLU":
            raise InvalidPrior(f"{path}.nonlinearity: {type(block.nonlinearity).__name__} has no exact form here")
        self.norm1, self.norm2 = GroupNorm(block.norm1), GroupNorm(block.norm2)
        self.conv1, self.conv2 = (convolution(c, path) for c in (block.conv1, block.conv2))
        self.shortcut = None if block.conv_shortcut is None else convolution(block.conv_shortcut, path)
        self.time = None if block.time_emb_proj is None else VectorLinear(block.time_emb_proj)
        self.scale_shift = block.time_embedding_norm == "scale_shift"
        if self.time is not None and block.time_embedding_norm not in ("default", "scale_shift"):
            raise InvalidPrior(f"{path}: time_embedding_norm={block.time_embedding_norm!r} has no exact form")
        self.resample = _resample(block, path)
        self.skip_time_act = block.skip_time_act
        self.out_factor = float(np.float32(1 / block.output_scale_factor))

    def modulation(self, embedding: Embedding) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
        """The first convolution's bias, and the second norm's affine map, under this embedding."""
        device = self.conv1.bias_O.device
        if self.time is None:
            return None, None
        shift = self.time(embedding.vector if self.skip_time_act else embedding.activated).to(device)
        if not self.scale_shift:
            return (self.conv1.bias_O.double() + shift).float(), None
        scale, shift = shift.chunk(2)
        gain = scale + 1.0
        offset = self.norm2.beta * gain
        return None, (self.norm2.gamma * gain, offset + shift)

    def __call__(self, backend: Backend, x: Tensor, embedding: Embedding) -> Tensor:
        bias, affine = embedding.of(self)
        if self.resample is None:
            q = self.norm1.quantize(backend, x)
        else:
            q = backend.quantize(self.resample(self.norm1.activate(x)))
            x = self.resample(x)
        h = backend.conv(q, self.conv1, bias_O=bias)
        if self.shortcut is not None:
            x = convolve_finely(backend, x, self.shortcut)
        h = backend.conv(self.norm2.quantize(backend, h, affine), self.conv2, residual_NHWC=x)
        return h if self.out_factor == 1.0 else h * self.out_factor


class Downsample:
    """diffusers' ``Downsample2D``: a strided convolution, or the mean of 2x2."""

    def __init__(self, layer: Any, path: str) -> None:
        if layer.norm is not None:
            raise InvalidPrior(f"{path}.norm: {type(layer.norm).__name__} in a downsampler has no exact form")
        self.weight = convolution(layer.conv, path) if layer.use_conv else None
        self.pad_end = layer.use_conv and layer.padding == 0

    def __call__(self, backend: Backend, x: Tensor) -> Tensor:
        if self.weight is None:
            return mean_pool(x)
        x = F.pad(x, (0, 0, 0, 1, 0, 1)) if self.pad_end else x
        return backend.conv(backend.quantize(x), self.weight)


class Upsample:
    """diffusers' ``Upsample2D``: nearest neighbour, then a convolution if it has one."""

    def __init__(self, layer: Any, path: str) -> None:
        if layer.norm is not None or layer.use_conv_transpose or not layer.interpolate:
            raise InvalidPrior(f"{path}: this form of Upsample2D (norm or transposed convolution) has no exact form")
        conv = layer.conv if layer.name == "conv" else getattr(layer, "Conv2d_0", None)
        self.weight = convolution(conv, path) if conv is not None and layer.use_conv else None

    def __call__(self, backend: Backend, x: Tensor) -> Tensor:
        if self.weight is None:
            return nearest(x)
        return backend.conv(backend.upsample(backend.quantize(x)), self.weight)


def mean_pool(x: Tensor) -> Tensor:
    """Mean of 2x2 blocks, in a fixed order of additions."""
    top = x[:, 0::2, 0::2] + x[:, 0::2, 1::2]
    bottom = x[:, 1::2, 0::2] + x[:, 1::2, 1::2]
    return (top + bottom) * 0.25


def nearest(x: Tensor) -> Tensor:
    """Twice the height and width, nearest neighbour."""
    return x.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def _resample(block: Any, path: str) -> Any:
    for layer, plain in ((block.upsample, nearest), (block.downsample, mean_pool)):
        if layer is not None:
            if type(layer).__name__ not in ("Upsample2D", "Downsample2D") or layer.use_conv:
                raise InvalidPrior(f"{path}: resampling by {type(layer).__name__} inside a residual block")
            return plain
    return None
