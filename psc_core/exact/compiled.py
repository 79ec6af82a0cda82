"""The compiled kernels (kernels/*.c) as a library: what Python and C agree upon.

It is built when the package is installed (see setup.py) and is optional.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_double, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
import torch

LIBRARY = Path(__file__).with_name("_native.so")
LEVELS = {"portable": 0, "avx2": 1, "avxvnni": 2, "avx512vnni": 3, "amx": 4}
"""Instruction sets that have kernels of their own, slowest first."""


class Source(Structure):
    """float32 (N, H, W, C), the channels in one or two tensors; a range is [N][smallest, largest], zero included."""

    _fields_ = (
        ("x", c_void_p * 2),
        ("range", c_void_p * 2),
        ("channels", c_int * 2),
        ("samples", c_long),
        ("height", c_long),
        ("width", c_long),
    )


class Padded(Structure):
    """Where codes go; ``pixel``: bytes from one to the next."""

    _fields_ = (("codes", c_void_p), ("scale", c_void_p), ("zero", c_void_p), ("pixel", c_long))


class Norm(Structure):
    """Group normalization; ``sigmoid``: the table of 2047 entries, or None for no activation."""

    _fields_ = (("gamma", c_void_p), ("beta", c_void_p), ("sigmoid", c_void_p), ("groups", c_int), ("eps", c_double))


class Conv(Structure):
    """A convolution; steps between pixels, rows and samples are in bytes."""

    _fields_ = (
        ("codes", c_void_p),
        *((name, c_long) for name in ("pixel", "row", "sample")),
        *((name, c_int) for name in ("kernel", "stride", "outputs")),
        *((name, c_long) for name in ("groups_row", "rows", "width")),
        *((name, c_void_p) for name in ("scale", "zero", "weights", "weight_sums", "weight_scale", "bias")),
        *((name, c_void_p) for name in ("residual", "out", "range")),
    )


_SIGNATURES = {
    "psc_supports": [c_int],
    "psc_lanes": [c_int],
    "psc_word": [c_int],
    "psc_group": [c_int],
    "psc_run": [c_int],
    "psc_ranges": [c_int, c_void_p, c_long, c_long, c_void_p, c_int],
    "psc_quantize": [c_int, POINTER(Source), POINTER(Padded), POINTER(Padded), c_int],
    "psc_norm_quantize": [c_int, POINTER(Source), POINTER(Norm), POINTER(Padded), c_int],
    "psc_upsample": [c_void_p, c_long, c_long, c_long, c_long, c_void_p, c_int],
    "psc_conv": [c_int, POINTER(Conv), c_long, c_int],
    "psc_normal": [c_int, c_long, c_void_p, c_void_p, c_void_p, c_void_p, c_int],
}


@cache
def library() -> ctypes.CDLL:
    """The kernels. Raises OSError if they were not built, or built from older sources.

    torch is imported by now, so that its OpenMP runtime and its threads are the ones that the kernels find.
    """
    lib = ctypes.CDLL(str(LIBRARY))
    if missing := [name for name in _SIGNATURES if not hasattr(lib, name)]:
        raise OSError(f"{LIBRARY} has no {missing[0]}: it was built from older sources, install again")
    for name, types in _SIGNATURES.items():
        getattr(lib, name).argtypes = types
    return lib


@cache
def best_level() -> int:
    """The fastest level of this CPU."""
    return max(level for level in LEVELS.values() if library().psc_supports(level))


def threads() -> int:
    """How many threads a call may use: as many as torch."""
    return torch.get_num_threads()


def normal_into(out_SN: np.ndarray, table: np.ndarray, samples: range, fixed: tuple[int, int], seed: int) -> None:
    """Fill float32 (S, n) as :func:`.noise.normal` does. ``fixed``: the counter's last two words."""
    lib, level = library(), best_level()
    key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], dtype=np.uint32)
    count = out_SN.shape[1]
    blocks = -(-count // 8)
    spare = np.empty(8 * blocks, dtype=np.float32)
    for place, sample in enumerate(samples):
        words = np.array([sample, *fixed], dtype=np.uint32)
        lib.psc_normal(level, blocks, *(a.ctypes.data for a in (words, key, table, spare)), threads())
        out_SN[place] = spare[:count]
