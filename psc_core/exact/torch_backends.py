"""Backends that sum integer products with torch: int8 GEMM, and float32 or bfloat16 GEMM inside their exact range."""

from __future__ import annotations

import torch
from torch import Tensor

from psc_core.exact.integers import (
    FLOAT32_TERMS,
    QuantizedWeight,
    TorchBackend,
    TorchQuantized,
    exact_sum,
    unfold,
)


class IntMM(TorchBackend):
    """im2col and ``torch._int_mm`` (int8 x int8 -> int32), on CPU and CUDA."""

    name = "int_mm"

    def accumulate(self, q: TorchQuantized, weight: QuantizedWeight) -> Tensor:
        patches, place = unfold((q.codes_NHWC ^ 128).view(torch.int8), weight, q.zero_N - 128)
        matrix = _matrix(weight, "int_mm", torch.int8, multiple=8)
        rows = patches.shape[0]
        patches = _pad(patches, max(-(-rows // 8) * 8, 32), matrix.shape[0])
        sums = torch._int_mm(patches, matrix)[:rows, : weight.ints_OKKI.shape[0]].reshape(*place, -1)
        weights = weight.ints_OKKI.to(torch.int32).sum(dim=(1, 2, 3), dtype=torch.int32)
        return sums + ((128 - q.zero_N)[:, None] * weights)[:, None, None, :]


class Float32MM(TorchBackend):
    """im2col and float32 GEMM on integer values, in pieces whose sums stay below 2^24."""

    name = "float32"
    dtype = torch.float32

    def accumulate(self, q: TorchQuantized, weight: QuantizedWeight) -> Tensor:
        ints = q.codes_NHWC.to(self.dtype) - q.zero_N.to(self.dtype)[:, None, None, None]
        patches, place = unfold(ints, weight, torch.zeros_like(q.zero_N))
        matrix = _matrix(weight, self.name, self.dtype)
        pieces = (slice(i, i + FLOAT32_TERMS) for i in range(0, matrix.shape[0], FLOAT32_TERMS))
        return exact_sum(self.product(patches[:, p], matrix[p]) for p in pieces).reshape(*place, -1)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b


class BFloat16MM(Float32MM):
    """bfloat16 tensor cores with float32 accumulation and output (CUDA): +-255 is exact in bfloat16."""

    name = "bfloat16"
    dtype = torch.bfloat16

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.mm(a, b, out_dtype=torch.float32)

    def batch_product(self, a_BMK: Tensor, b_BKN: Tensor) -> Tensor:
        return torch.bmm(a_BMK.to(self.dtype), b_BKN.to(self.dtype), out_dtype=torch.float32)


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
