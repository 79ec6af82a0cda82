"""The compiled CPU backend: the same bits as :class:`.integers.TorchBackend`, many times faster."""

from __future__ import annotations

from ctypes import byref, c_int, c_void_p
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psc_core.exact.compiled import LEVELS, Conv, Norm, Padded, Source, best_level, library, threads
from psc_core.exact.integers import QuantizedWeight, TorchQuantized, sigmoid_table
from psc_core.exact.torch_backends import Float32MM

_MOST_PADDING, _MOST_STRIDE = 1, 4
"""What the padded buffers have room for; wider convolutions go through torch."""
_MOST_TOGETHER, _MOST_READ = 16, 64
"""Output pixels of a group and bytes of a load, at the level where they are most."""


class Parts(NamedTuple):
    """Two tensors side by side in channels, not copied together."""

    left_NHWC: Tensor
    right_NHWC: Tensor

    def together(self) -> Tensor:
        return torch.cat(self, dim=3)


@dataclass(frozen=True)
class NativeQuantized:
    """Codes with a border of one, and channels padded to whole words of 4 bytes, as one level likes them.

    codes: bytes (N, H + 2, W + 2, pixel) and slack; uint8 codes (``word`` 4), or int16 codes less their zero (2).
    """

    codes: Tensor
    scale_N: Tensor
    zero_N: Tensor
    shape: tuple[int, int, int, int]
    pixel: int
    word: int

    def plain(self) -> TorchQuantized:
        """The same codes as the torch backends keep them."""
        n, h, w, c = self.shape
        held = self.codes[: n * (h + 2) * (w + 2) * self.pixel].view(n, h + 2, w + 2, self.pixel)[:, 1:-1, 1:-1]
        if self.word == 4:
            return TorchQuantized(held[..., :c].contiguous(), self.scale_N, self.zero_N)
        codes = held.contiguous().view(torch.int16)[..., :c] + self.zero_N[:, None, None, None]
        return TorchQuantized(codes.to(torch.uint8), self.scale_N, self.zero_N)


class Native:
    """The compiled kernels at the best level of this CPU; subclasses ask for one."""

    name, device = "native", "cpu"
    wanted: str | None = None

    def __init__(self) -> None:
        self._lib = library()
        self.level = best_level() if self.wanted is None else LEVELS[self.wanted]
        if not self._lib.psc_supports(self.level):
            raise NotImplementedError(f"{self.name}: this CPU has no such instructions")
        self._lanes, self._word = self._lib.psc_lanes(self.level), self._lib.psc_word(self.level)
        self._group, self._run = self._lib.psc_group(self.level), self._lib.psc_run(self.level)

    def __reduce__(self) -> tuple:
        from psc_core.exact.backends import get_backend

        return get_backend, (self.device,)

    def join(self, left_NHWC: Tensor, right_NHWC: Tensor) -> Parts:
        return Parts(left_NHWC, right_NHWC)

    def quantize(self, x_NHWC: Tensor | Parts) -> NativeQuantized:
        source, shape, _held = self._source(x_NHWC)
        out, to = self._buffer(shape)
        self._lib.psc_quantize(self.level, byref(source), byref(to), None, threads())
        return out

    def quantize_finely(self, x_NHWC: Tensor | Parts) -> tuple[NativeQuantized, NativeQuantized]:
        source, shape, _held = self._source(x_NHWC)
        (high, to_high), (low, to_low) = self._buffer(shape), self._buffer(shape)
        self._lib.psc_quantize(self.level, byref(source), byref(to_high), byref(to_low), threads())
        return high, low

    def norm_quantize(
        self, x_NHWC: Tensor | Parts, gamma_C: Tensor, beta_C: Tensor, groups: int, eps: float, silu: bool
    ) -> NativeQuantized:
        source, shape, _held = self._source(x_NHWC)
        out, to = self._buffer(shape)
        gamma, beta = gamma_C.double().contiguous(), beta_C.double().contiguous()
        sigmoid = sigmoid_table().data_ptr() if silu else None
        norm = Norm(gamma.data_ptr(), beta.data_ptr(), sigmoid, groups, eps)
        self._lib.psc_norm_quantize(self.level, byref(source), byref(norm), byref(to), threads())
        return out

    def upsample(self, q: NativeQuantized) -> NativeQuantized:
        n, h, w, c = q.shape
        codes = _bytes(n, 2 * h, 2 * w, q.pixel)
        self._lib.psc_upsample(q.codes.data_ptr(), n, h, w, q.pixel, codes.data_ptr(), threads())
        return NativeQuantized(codes, q.scale_N, q.zero_N, (n, 2 * h, 2 * w, c), q.pixel, q.word)

    def conv(
        self,
        q: NativeQuantized,
        weight: QuantizedWeight,
        *,
        bias_O: Tensor | None = None,
        residual_NHWC: Tensor | Parts | None = None,
    ) -> Tensor:
        residual = residual_NHWC.together() if isinstance(residual_NHWC, Parts) else residual_NHWC
        if weight.padding > _MOST_PADDING or weight.stride > _MOST_STRIDE:
            return Float32MM().conv(q.plain(), weight, bias_O=bias_O, residual_NHWC=residual)
        residual = None if residual is None else _float32(residual)
        packed = self._packed(weight)
        outputs, size = weight.ints_OKKI.shape[:2]
        n, h, w, _ = q.shape
        height, width = ((side + 2 * weight.padding - size) // weight.stride + 1 for side in (h, w))
        bias = packed.bias if bias_O is None else _whole(_float32(bias_O), self._lanes)
        out, ends = _floats(n, height, width, outputs), _floats(n, 2)
        row = (w + 2) * q.pixel
        c = Conv(
            q.codes.data_ptr() + (1 - weight.padding) * (row + q.pixel),
            *(q.pixel, row, (h + 2) * row, size, weight.stride, outputs, -(-width // self._group), height, width),
            *(t.data_ptr() for t in (q.scale_N, q.zero_N, packed.ints, packed.sums, packed.scale, bias)),
            None if residual is None else residual.data_ptr(),
            *(out.data_ptr(), ends.data_ptr()),
        )
        self._lib.psc_conv(self.level, byref(c), n, threads())
        return _remember(out, ends)

    def bmm(self, a_BMK: Tensor, b_BKN: Tensor) -> Tensor:
        return Float32MM().bmm(a_BMK, b_BKN)

    def _packed(self, weight: QuantizedWeight) -> _Packed:
        key = f"native {self._lanes} {self._word} {self._run}"
        found = weight.packed.get(key)
        if found is None:
            sums = weight.ints_OKKI.to(torch.int32).sum(dim=(1, 2, 3), dtype=torch.int32)
            rows = (_whole(t, self._lanes) for t in (sums, weight.scale_O, weight.bias_O))
            found = weight.packed[key] = _Packed(_pack(weight.ints_OKKI, self._lanes, self._word, self._run), *rows)
        return found

    def _source(self, x: Tensor | Parts) -> tuple[Source, tuple[int, int, int, int], Any]:
        """What the kernels read, its shape, and what must outlive the call."""
        parts = [_float32(part) for part in (x if isinstance(x, Parts) else (x,))]
        ranges = [self._range(part) for part in parts]
        n, h, w, _ = parts[0].shape
        channels = [part.shape[3] for part in parts]
        at, ends = ((c_void_p * 2)(*(t.data_ptr() for t in tensors)) for tensors in (parts, ranges))
        source = Source(at, ends, (c_int * 2)(*channels), n, h, w)
        return source, (n, h, w, sum(channels)), (parts, ranges)

    def _range(self, x: Tensor) -> Tensor:
        """Smallest and largest value a sample, zero included (N, 2): as the convolution that made x saw it, or anew."""
        found = _recall(x)
        if found is None:
            n, h, w, c = x.shape
            found = _floats(n, 2)
            self._lib.psc_ranges(self.level, x.data_ptr(), n, h * w * c, found.data_ptr(), threads())
        return found

    def _buffer(self, shape: tuple[int, int, int, int]) -> tuple[NativeQuantized, Padded]:
        n, h, w, c = shape
        pixel = -(-c // self._word) * 4
        codes, scale = _bytes(n, h, w, pixel), _floats(n)
        zero = torch.empty(n, dtype=torch.int32, device="cpu")
        out = NativeQuantized(codes, scale, zero, shape, pixel, self._word)
        return out, Padded(codes.data_ptr(), scale.data_ptr(), zero.data_ptr(), pixel)


class NativeAmx(Native):
    name, wanted = "native_amx", "amx"


class NativeAvx512Vnni(Native):
    name, wanted = "native_avx512vnni", "avx512vnni"


class NativeAvxVnni(Native):
    name, wanted = "native_avxvnni", "avxvnni"


class NativeAvx2(Native):
    name, wanted = "native_avx2", "avx2"


class NativePortable(Native):
    name, wanted = "native_portable", "portable"


class _Packed(NamedTuple):
    """A weight's integers in a level's order, and its rows padded to whole blocks of outputs."""

    ints: Tensor
    sums: Tensor
    scale: Tensor
    bias: Tensor


def _float32(x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise TypeError(f"the compiled kernels take float32 on the CPU, not {x.dtype} on {x.device}")
    return x.contiguous()


def _remember(x: Tensor, ends_N2: Tensor) -> Tensor:
    # The version tells whether x was written to since; inference tensors have none.
    if not x.is_inference():
        x._psc_range = (x._version, ends_N2)  # type: ignore[attr-defined]
    return x


def _recall(x: Tensor) -> Tensor | None:
    version, ends = getattr(x, "_psc_range", (None, None))
    return ends if version is not None and version == x._version else None


def _pack(ints_OKKI: Tensor, lanes: int, word: int, run: int) -> Tensor:
    """[O / lanes][K][K I / word][lanes][word], zero-padded, the third to whole runs; words of 4 int8, of 2 int16."""
    o, k, _, i = ints_OKKI.shape
    grown = torch.zeros(-(-o // lanes) * lanes, k, k, -(-i // word) * word, dtype=torch.int16, device="cpu")
    grown[:o, :, :, :i] = ints_OKKI
    view = grown.view(-1, lanes, k, k * grown.shape[3] // word, word).permute(0, 2, 3, 1, 4)
    whole = torch.nn.functional.pad(view, (0, 0, 0, 0, 0, -view.shape[2] % run))
    return whole.to(torch.int8 if word == 4 else torch.int16).contiguous()


def _whole(x_O: Tensor, lanes: int) -> Tensor:
    """Padded with zeros to whole blocks of outputs."""
    return torch.nn.functional.pad(x_O, (0, -len(x_O) % lanes)).contiguous()


def _floats(*shape: int) -> Tensor:
    """Room that the kernels write: float32 on the CPU, whatever torch's defaults are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _bytes(n: int, h: int, w: int, pixel: int) -> Tensor:
    """Room for padded codes, and for what a group of pixels may read past the last row."""
    slack = _MOST_TOGETHER * _MOST_STRIDE * pixel + _MOST_READ
    return torch.empty(n * (h + 2) * (w + 2) * pixel + slack, dtype=torch.uint8, device="cpu")
