"""Backends that sum integer products with torch: int8 GEMM, and float32 or bfloat16 GEMM inside their exact range."""

from __future__ import annotations

import torch
from torch import Tensor

from psc_core.exact.integers import ACTIVATION_MAX, WEIGHT_MAX, QuantizedWeight, TorchBackend, unfold

FLOAT32_TERMS = 2**24 // (ACTIVATION_MAX * WEIGHT_MAX)
"""How many products a float32 sum can hold exactly."""


class IntMM(TorchBackend):
    """im2col and ``torch._int_mm`` (int8 x int8 -> int32), on CPU and CUDA."""

    name = "int_mm"

    def accumulate(self, ints_NHWC: Tensor, weight: QuantizedWeight) -> Tensor:
        patches, place = unfold(ints_NHWC, weight)
        matrix = _matrix(weight, "int_mm", torch.int8, multiple=8)
        rows = patches.shape[0]
        patches = _pad(patches, max(-(-rows // 8) * 8, 32), matrix.shape[0])
        out = torch._int_mm(patches, matrix)
        return out[:rows, : weight.ints_OKKI.shape[0]].reshape(*place, -1)


class Float32MM(TorchBackend):
    """im2col and float32 GEMM on integer values, in pieces whose sums stay below 2^24."""

    name = "float32"

    def accumulate(self, ints_NHWC: Tensor, weight: QuantizedWeight) -> Tensor:
        patches, place = unfold(ints_NHWC, weight)
        matrix = _matrix(weight, "float32", torch.float32)
        patches = patches.float()
        pieces = range(0, matrix.shape[0], FLOAT32_TERMS)
        sums = [patches[:, i : i + FLOAT32_TERMS] @ matrix[i : i + FLOAT32_TERMS] for i in pieces]
        out = sums[0].double() if len(sums) > 1 else sums[0]
        for more in sums[1:]:
            out = out + more.double()
        return out.reshape(*place, -1)


class Float32Conv(TorchBackend):
    """The library's own float32 convolution on integer values; exact only while it sums products as they are."""

    name = "float32_conv"

    def accumulate(self, ints_NHWC: Tensor, weight: QuantizedWeight) -> Tensor:
        kernel = weight.packed.get(self.name)
        if kernel is None:
            kernel = weight.ints_OKKI.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            weight.packed[self.name] = kernel
        group = FLOAT32_TERMS // (kernel.shape[2] * kernel.shape[3])
        x = ints_NHWC.permute(0, 3, 1, 2).float()
        out = None
        for i in range(0, kernel.shape[1], group):
            part = torch.nn.functional.conv2d(
                x[:, i : i + group], kernel[:, i : i + group], stride=weight.stride, padding=weight.padding
            )
            out = part if out is None else out.double() + part.double()
        assert out is not None
        return out.permute(0, 2, 3, 1)


class BFloat16MM(Float32MM):
    """bfloat16 tensor cores with float32 accumulation and output (CUDA): int8 values are exact in bfloat16."""

    name = "bfloat16"

    def accumulate(self, ints_NHWC: Tensor, weight: QuantizedWeight) -> Tensor:
        patches, place = unfold(ints_NHWC, weight)
        matrix = _matrix(weight, "bfloat16", torch.bfloat16)
        patches = patches.bfloat16()
        out = None
        for i in range(0, matrix.shape[0], FLOAT32_TERMS):
            part = torch.mm(
                patches[:, i : i + FLOAT32_TERMS], matrix[i : i + FLOAT32_TERMS], out_dtype=torch.float32
            )
            out = part if out is None else out.double() + part.double()
        assert out is not None
        return out.reshape(*place, -1)


def _matrix(weight: QuantizedWeight, key: str, dtype: torch.dtype, multiple: int = 1) -> Tensor:
    """The weight as (K x K x I, O), padded with zeros to ``multiple``, made once."""
    matrix = weight.packed.get(key)
    if matrix is None:
        flat = weight.ints_OKKI.flatten(1).T
        up = [-(-size // multiple) * multiple for size in flat.shape]
        matrix = weight.packed[key] = _pad(flat, *up).to(dtype).contiguous()
    return matrix


def _pad(x: Tensor, rows: int, columns: int) -> Tensor:
    grow = (0, columns - x.shape[1], 0, rows - x.shape[0])
    return torch.nn.functional.pad(x, grow) if any(grow) else x.contiguous()
