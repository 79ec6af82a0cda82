"""What every backend must compute, bit for bit: the reference, in plain torch, on any device.

Tensors are channels-last, ``x_NHWC`` float32. A *sample* is one n. Each line below is one IEEE-754 operation or an
exact integer sum, so another backend agrees by doing the same operations in the same order; only the integer sums
inside :func:`TorchBackend.accumulate` may be reordered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import transcendental

ACTIVATION_MAX = 255
"""Activations are 0..255 with a zero point a sample: after SiLU a symmetric code would waste half of its range."""
WEIGHT_MAX = 127
"""Without VNNI, x86 int8 products that saturate in int16 are wrong at 8 bits: the known-answer test refuses them."""
FLOAT32_TERMS = 2**24 // (ACTIVATION_MAX * WEIGHT_MAX)
"""How many products a float32 sum can hold exactly."""
NORM_MAX = 2047
SIGMOID_STEPS = 64
SIGMOID_MAX = 1023


@dataclass(frozen=True)
class QuantizedWeight:
    """A convolution (or linear layer, as a 1x1 convolution) with integer weights.

    ints_OKKI: int8 within +-127; scale_O, bias_O: float32.
    """

    ints_OKKI: Tensor
    scale_O: Tensor
    bias_O: Tensor
    stride: int = 1
    padding: int = 0
    packed: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Per backend: the same integers in the order that it likes."""

    def to(self, device: torch.device | str) -> QuantizedWeight:
        return QuantizedWeight(
            self.ints_OKKI.to(device),
            self.scale_O.to(device),
            self.bias_O.to(device),
            self.stride,
            self.padding,
        )


class Backend(Protocol):
    """One way to compute the integers. All ways give the same bits; pickled, it becomes the best of its kind of device
    where it is read."""

    name: str
    device: str
    """The kind that it was chosen for, see :func:`.backends.get_backend`."""

    def join(self, left_NHWC: Tensor, right_NHWC: Tensor) -> Any:
        """Channels of both, for :meth:`quantize`, :meth:`quantize_finely`, :meth:`norm_quantize` or as a residual."""
        ...

    def quantize(self, x_NHWC: Tensor) -> Any: ...

    def quantize_finely(self, x_NHWC: Tensor) -> tuple[Any, Any]: ...

    def norm_quantize(
        self, x_NHWC: Tensor, gamma_C: Tensor, beta_C: Tensor, groups: int, eps: float, silu: bool
    ) -> Any: ...

    def upsample(self, q: Any) -> Any: ...

    def conv(
        self,
        q: Any,
        weight: QuantizedWeight,
        *,
        bias_O: Tensor | None = None,
        residual_NHWC: Tensor | None = None,
    ) -> Tensor: ...

    def bmm(self, a_BMK: Tensor, b_BKN: Tensor) -> Tensor: ...


def quantize_weight(weight_OIKK: Tensor, bias_O: Tensor | None, stride: int = 1, padding: int = 0) -> QuantizedWeight:
    """Round a float weight (O, I, K, K) to 8 bits with one scale an output channel."""
    weight = weight_OIKK.detach().float().cpu()
    peak = weight.abs().amax(dim=(1, 2, 3))
    peak = torch.where(peak == 0, torch.ones_like(peak), peak)
    scale = peak * float(np.float32(1 / WEIGHT_MAX))
    ints = (weight / scale[:, None, None, None]).round().clamp(-WEIGHT_MAX, WEIGHT_MAX).to(torch.int8)
    bias = torch.zeros_like(scale) if bias_O is None else bias_O.detach().float().cpu()
    return QuantizedWeight(ints.permute(0, 2, 3, 1).contiguous(), scale, bias, stride, padding)


@cache
def sigmoid_table(device: str = "cpu") -> Tensor:
    """sigmoid(i / 64) for i = -1023..1023, float32, from decimal arithmetic."""
    values = [transcendental.sigmoid(i / SIGMOID_STEPS) for i in range(-SIGMOID_MAX, SIGMOID_MAX + 1)]
    return torch.tensor(values, dtype=torch.float64, device="cpu").float().to(device)


def silu(y: Tensor) -> Tensor:
    """y x sigmoid(y), the sigmoid taken from :func:`sigmoid_table` at the nearest 1/64."""
    index = (y * SIGMOID_STEPS).round().clamp(-SIGMOID_MAX, SIGMOID_MAX).to(torch.int32) + SIGMOID_MAX
    table = sigmoid_table(str(y.device))
    return y * table.index_select(0, index.flatten()).view_as(y)


def norm_affine(x_NHWC: Tensor, gamma_C: Tensor, beta_C: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Group normalization as one multiplication and one addition a channel: a_NC, b_NC float32.

    Mean and variance come from x rounded to 12 bits of its own maximum, summed exactly.
    """
    n, height, width, channels = x_NHWC.shape
    peak = nonzero(x_NHWC.abs().amax(dim=(1, 2, 3)))
    t = (x_NHWC * (torch.full_like(peak, NORM_MAX) / peak)[:, None, None, None]).round()
    sums = torch.stack((t.double().sum(dim=(1, 2)), (t * t).double().sum(dim=(1, 2))))
    first, second = sums.view(2, n, groups, channels // groups).sum(dim=3)
    count = torch.full_like(first, height * width * (channels // groups))
    mean, square = first / count, second / count
    variance = (square - mean * mean).clamp(min=0)
    unit = (peak.double() / torch.full_like(peak, NORM_MAX).double())[:, None]
    deviation = (variance * (unit * unit) + eps).sqrt()
    spread = channels // groups
    scale = gamma_C / deviation.repeat_interleave(spread, dim=1)
    shift = beta_C - (mean * unit).repeat_interleave(spread, dim=1) * scale
    return scale.float(), shift.float()


def nonzero(peak: Tensor) -> Tensor:
    """Replace zeros by one, so that an all-zero sample divides safely."""
    return torch.where(peak == 0, torch.ones_like(peak), peak)


class Rounding(NamedTuple):
    """How a sample is rounded: code = round(x factor) + zero, and x is about (code - zero) scale. All float32 (N,)."""

    factor: Tensor
    scale: Tensor
    zero: Tensor

    def codes(self, x_NHWC: Tensor) -> Tensor:
        """Integers 0..255 as float32."""
        rounded = (x_NHWC * self.factor[:, None, None, None]).round() + self.zero[:, None, None, None]
        return rounded.clamp(0, ACTIVATION_MAX)


def rounding(x_NHWC: Tensor) -> Rounding:
    """The finest 8-bit code that covers a sample's smallest and largest value, and zero exactly."""
    low = x_NHWC.amin(dim=(1, 2, 3)).clamp(max=0)
    high = x_NHWC.amax(dim=(1, 2, 3)).clamp(min=0)
    reach = nonzero(high - low)
    factor = torch.full_like(reach, ACTIVATION_MAX) / reach
    return Rounding(factor, reach * float(np.float32(1 / ACTIVATION_MAX)), -(low * factor).round())


@dataclass(frozen=True)
class TorchQuantized:
    """codes_NHWC: uint8; scale_N: float32; zero_N: int32, the code that means 0."""

    codes_NHWC: Tensor
    scale_N: Tensor
    zero_N: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        n, h, w, c = self.codes_NHWC.shape
        return n, h, w, c


class TorchBackend:
    """The reference. Subclasses say how integer products are summed."""

    name = "torch"
    device = "cpu"

    def __reduce__(self) -> tuple:
        from psc_core.exact.backends import get_backend

        return get_backend, (self.device,)

    def join(self, left_NHWC: Tensor, right_NHWC: Tensor) -> Tensor:
        return torch.cat((left_NHWC, right_NHWC), dim=3)

    def quantize(self, x_NHWC: Tensor) -> TorchQuantized:
        how = rounding(x_NHWC)
        return TorchQuantized(how.codes(x_NHWC).to(torch.uint8), how.scale, how.zero.to(torch.int32))

    def quantize_finely(self, x_NHWC: Tensor) -> tuple[TorchQuantized, TorchQuantized]:
        """Two codes whose sum is x to about 16 bits: the rounding of x, and the rounding of what that left."""
        how = rounding(x_NHWC)
        codes = how.codes(x_NHWC)
        meant = (codes - how.zero[:, None, None, None]) * how.scale[:, None, None, None]
        high = TorchQuantized(codes.to(torch.uint8), how.scale, how.zero.to(torch.int32))
        return high, self.quantize(x_NHWC - meant)

    def norm_quantize(
        self, x_NHWC: Tensor, gamma_C: Tensor, beta_C: Tensor, groups: int, eps: float, silu: bool
    ) -> TorchQuantized:
        scale, shift = norm_affine(x_NHWC, gamma_C, beta_C, groups, eps)
        y = x_NHWC * scale[:, None, None, :]
        y = y + shift[:, None, None, :]
        return self.quantize(_silu(y) if silu else y)

    def upsample(self, q: TorchQuantized) -> TorchQuantized:
        """Nearest neighbour, twice the height and width."""
        codes = q.codes_NHWC.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        return TorchQuantized(codes, q.scale_N, q.zero_N)

    def conv(
        self,
        q: TorchQuantized,
        weight: QuantizedWeight,
        *,
        bias_O: Tensor | None = None,
        residual_NHWC: Tensor | None = None,
    ) -> Tensor:
        """Integer convolution, then x (activation scale x weight scale) + bias (+ residual): NHWC float32."""
        factor = q.scale_N[:, None] * weight.scale_O
        out = self.accumulate(q, weight).float() * factor[:, None, None, :]
        out = out + (weight.bias_O if bias_O is None else bias_O)
        return out if residual_NHWC is None else out + residual_NHWC

    def accumulate(self, q: TorchQuantized, weight: QuantizedWeight) -> Tensor:
        """The integer sums of (code - zero) x weight (N, H', W', O), as any type that holds them exactly."""
        raise NotImplementedError

    def bmm(self, a_BMK: Tensor, b_BKN: Tensor) -> Tensor:
        """Batched products of integer-valued float32, |a| <= 255, |b| <= 127: the sums, in any type that holds them."""
        return exact_sum(
            self.batch_product(a_BMK[:, :, i : i + FLOAT32_TERMS], b_BKN[:, i : i + FLOAT32_TERMS])
            for i in range(0, a_BMK.shape[2], FLOAT32_TERMS)
        )

    def batch_product(self, a_BMK: Tensor, b_BKN: Tensor) -> Tensor:
        """One piece of :meth:`bmm`, whose sums stay below 2^24."""
        return torch.bmm(a_BMK, b_BKN)


def exact_sum(parts: Iterable[Tensor]) -> Tensor:
    """Add integer-valued float32 pieces, each below 2^24, in float64 where there are several."""
    first, *others = parts
    total = first.double() if others else first
    for part in others:
        total = total + part.double()
    return total


_silu = silu


def unfold(x_NHWC: Tensor, weight: QuantizedWeight, border_N: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Patches as a matrix (N x H' x W', K x K x C), the padding filled with ``border_N``; and (N, H', W')."""
    size, stride, pad = weight.ints_OKKI.shape[1], weight.stride, weight.padding
    n, h, w, channels = x_NHWC.shape
    x = x_NHWC
    if pad:
        shape = (n, h + 2 * pad, w + 2 * pad, channels)
        x = border_N.to(x_NHWC.dtype)[:, None, None, None].expand(shape).contiguous()
        x[:, pad : pad + h, pad : pad + w] = x_NHWC
    height, width = ((x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1)
    views = [
        x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    patches = views[0] if size == 1 else torch.cat(views, dim=3)
    return patches.reshape(n * height * width, size * size * channels), (n, height, width)
