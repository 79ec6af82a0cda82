"""The compiled CPU backend: the same integers as :class:`.integers.TorchBackend`, several times faster.

The library is built when the package is installed (see setup.py) and is optional: without it the torch backends serve.
"""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int, c_long, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from psc_core.exact.integers import QuantizedWeight, sigmoid_table

LIBRARY = Path(__file__).with_name("_native.so")
_LANES = 16
_LEVELS = {"native": None, "native_avx2": 1, "native_portable": 0}
_PER_WORD = (1, 2, 4)
"""Input channels that share a machine word in the packed weights, a level."""


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels. Raises OSError if they were not built."""
    lib = ctypes.CDLL(str(LIBRARY))
    p, i, n = c_void_p, c_int, c_long
    lib.psc_level.restype = c_int
    signatures = {
        "psc_quantize": [p, n, n, n, i, i, p, p, p, p, i],
        "psc_norm_quantize": [p, n, n, n, i, i, p, p, i, c_double, p, p, p, p, p, i],
        "psc_upsample": [p, n, n, n, i, p, p, i],
        "psc_conv": [p, n, n, n, i, p, p, p, p, i, i, i, i, p, p, p, p, i, i],
        "psc_normal": [n, p, p, p, p, i],
    }
    for name, types in signatures.items():
        getattr(lib, name).argtypes = types
        getattr(lib, name).restype = None
    return lib


@dataclass(frozen=True)
class NativeQuantized:
    """Codes with a border of one and channels padded to a multiple of 4: uint8 (N, H + 2, W + 2, C')."""

    codes: Tensor
    scale_N: Tensor
    zero_N: Tensor
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        n, h, w, _ = self.codes.shape
        return n, h - 2, w - 2, self.channels


class Native:
    """The compiled kernels at the best level of this CPU, or at one that is asked for."""

    name = "native"

    def __init__(self) -> None:
        self._lib = library()
        best = self._lib.psc_level()
        wanted = _LEVELS[self.name]
        if wanted is None and best == 0:
            raise NotImplementedError("no vector instructions that the kernels know: torch is faster here")
        if wanted is not None and wanted > best:
            raise NotImplementedError(f"{self.name}: this CPU has no such instructions")
        self.level = best if wanted is None else wanted

    def quantize(self, x_NHWC: Tensor) -> NativeQuantized:
        return self._quantize(x_NHWC.contiguous(), None)

    def quantize_finely(self, x_NHWC: Tensor) -> tuple[NativeQuantized, NativeQuantized]:
        rest = torch.empty(x_NHWC.shape)
        high = self._quantize(x_NHWC.contiguous(), rest)
        return high, self._quantize(rest, None)

    def _quantize(self, x: Tensor, rest: Tensor | None) -> NativeQuantized:
        out = _buffer(x)
        n, h, w, c = x.shape
        to = (out.codes, out.scale_N, out.zero_N)
        rest_at = None if rest is None else rest.data_ptr()
        self._lib.psc_quantize(_at(x), n, h, w, c, out.codes.shape[3], *map(_at, to), rest_at, _threads())
        return out

    def norm_quantize(
        self, x_NHWC: Tensor, gamma_C: Tensor, beta_C: Tensor, groups: int, eps: float, silu: bool
    ) -> NativeQuantized:
        x, out = x_NHWC.contiguous(), _buffer(x_NHWC)
        n, h, w, c = x.shape
        gamma, beta, scratch = gamma_C.contiguous(), beta_C.contiguous(), torch.empty(x.shape)
        table = sigmoid_table().data_ptr() if silu else None
        to = (scratch, out.codes, out.scale_N, out.zero_N)
        self._lib.psc_norm_quantize(
            _at(x), n, h, w, c, out.codes.shape[3], _at(gamma), _at(beta), groups, eps, table, *map(_at, to), _threads()
        )
        return out

    def upsample(self, q: NativeQuantized) -> NativeQuantized:
        n, h, w, c = q.shape
        padded = q.codes.shape[3]
        codes = torch.empty(n, 2 * h + 2, 2 * w + 2, padded, dtype=torch.uint8)
        self._lib.psc_upsample(_at(q.codes), n, h, w, padded, _at(q.zero_N), _at(codes), _threads())
        return NativeQuantized(codes, q.scale_N, q.zero_N, c)

    def conv(
        self,
        q: NativeQuantized,
        weight: QuantizedWeight,
        *,
        bias_O: Tensor | None = None,
        residual_NHWC: Tensor | None = None,
    ) -> Tensor:
        n, h, w, _ = q.shape
        outputs, size = weight.ints_OKKI.shape[:2]
        packed, sums = self._packed(weight)
        height, width = ((side + 2 * weight.padding - size) // weight.stride + 1 for side in (h, w))
        out = torch.empty(n, height, width, outputs)
        bias = (weight.bias_O if bias_O is None else bias_O).contiguous()
        residual = None if residual_NHWC is None else residual_NHWC.contiguous()
        self._lib.psc_conv(
            *(_at(q.codes), n, h, w, q.codes.shape[3], _at(q.zero_N), _at(q.scale_N), _at(packed), _at(sums)),
            *(size, weight.stride, weight.padding, outputs, _at(weight.scale_O), _at(bias)),
            *(None if residual is None else _at(residual), _at(out), self.level, _threads()),
        )
        return out

    def _packed(self, weight: QuantizedWeight) -> tuple[Tensor, Tensor]:
        """Weights in the level's order, and their sum an output; made once."""
        key = f"native {self.level}"
        found = weight.packed.get(key)
        if found is None:
            if weight.padding > 1:
                raise NotImplementedError(f"padding {weight.padding}: the compiled kernels keep a border of one")
            found = weight.packed[key] = (_pack(weight.ints_OKKI, _PER_WORD[self.level]), _sums(weight.ints_OKKI))
        return found


class NativeAvx2(Native):
    name = "native_avx2"


class NativePortable(Native):
    name = "native_portable"


def normal_into(out_SN: np.ndarray, table: np.ndarray, samples: range, fixed: tuple[int, int], seed: int) -> None:
    """Fill float32 (S, n) as :func:`.noise.normal` does. ``fixed``: the counter's last two words."""
    lib = library()
    key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], dtype=np.uint32)
    count = out_SN.shape[1]
    blocks = -(-count // 8)
    spare = np.empty(8 * blocks, dtype=np.float32)
    for place, sample in enumerate(samples):
        words = np.array([sample, *fixed], dtype=np.uint32)
        lib.psc_normal(blocks, *(a.ctypes.data for a in (words, key, table, spare)), _threads())
        out_SN[place] = spare[:count]


def _buffer(x: Tensor) -> NativeQuantized:
    n, h, w, c = x.shape
    codes = torch.empty(n, h + 2, w + 2, -(-c // 4) * 4, dtype=torch.uint8)
    return NativeQuantized(codes, torch.empty(n), torch.empty(n, dtype=torch.int32), c)


def _pack(ints_OKKI: Tensor, together: int) -> Tensor:
    """[O / 16][K][K][I / together][16][together], zero-padded; int8 for words of 4, else int16."""
    o, k, _, i = ints_OKKI.shape
    grown = torch.zeros(-(-o // _LANES) * _LANES, k, k, -(-i // 4) * 4, dtype=torch.int16)
    grown[:o, :, :, :i] = ints_OKKI
    view = grown.view(-1, _LANES, k, k, grown.shape[3] // together, together).permute(0, 2, 3, 4, 1, 5)
    return view.to(torch.int8 if together == 4 else torch.int16).contiguous()


def _sums(ints_OKKI: Tensor) -> Tensor:
    return ints_OKKI.to(torch.int32).sum(dim=(1, 2, 3), dtype=torch.int32)


def _at(tensor: Tensor) -> int:
    return tensor.data_ptr()


def _threads() -> int:
    return torch.get_num_threads()
