"""Counter-based Gaussian noise: Philox4x32-10 (Salmon et al., SC 2011) through a stored inverse-normal table.

A value depends on its key and place alone, never on a generator's history, the batch, or the device.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from psc_core.errors import PscError
from psc_core.exact.compiled import normal_into

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_TABLE_FILE = Path(__file__).with_name("normal_table.npy")
_TABLE_SHA256 = "b77c3819cf051112ca5bccf4592dd00990b8a5dfd6f470830febc0475a298ba9"
TABLE_BITS = 12
"""Table entries are multiples of 2^-12."""


class NoiseKey(NamedTuple):
    """Where noise is drawn: the stream's seed (64 bits), canvas, purpose (8 bits), stage and step (12 bits each)."""

    seed: int
    canvas: int
    purpose: int
    stage: int
    step: int


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 of ``counter`` (4, n) uint32-valued uint64 under ``key``; same shape."""
    x0, x1, x2, x3 = counter.astype(np.uint64)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        x0, x1, x2, x3 = (
            (p1 >> _HALF) ^ x1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _HALF) ^ x3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((x0, x1, x2, x3))


def words(key: NoiseKey, sample: int, count: int) -> np.ndarray:
    """``count`` uint32 words of the stream that belongs to ``key`` and ``sample``."""
    blocks = -(-count // 4)
    counter = np.empty((4, blocks), dtype=np.uint64)
    counter[0] = np.arange(blocks, dtype=np.uint64)
    counter[1] = sample
    counter[2], counter[3] = _fixed_words(key)
    out = philox(counter, (key.seed & 0xFFFFFFFF, key.seed >> 32 & 0xFFFFFFFF))
    return out.T.reshape(-1)[:count].astype(np.uint32)


def rows(key: NoiseKey, places: np.ndarray, width: int) -> np.ndarray:
    """Rows ``places`` (n,) of ``normal(key, range(1), (any, width))[0]``, no others drawn: float32 (n, width).

    width: a multiple of 8, so that a row is whole blocks.
    """
    blocks = places.astype(np.uint64)[:, None] * np.uint64(width // 8) + np.arange(width // 8, dtype=np.uint64)
    counter = np.zeros((4, blocks.size), dtype=np.uint64)
    counter[0] = blocks.reshape(-1)
    counter[2], counter[3] = _fixed_words(key)
    out = philox(counter, (key.seed & 0xFFFFFFFF, key.seed >> 32 & 0xFFFFFFFF))
    halves = np.ascontiguousarray(out.T).astype("<u4").view("<u2")
    return normal_table()[halves.reshape(len(places), width)]


def normal(key: NoiseKey, samples: range, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal float32 (len(samples), *shape), multiples of 2^-12, one independent stream a sample."""
    numel = int(np.prod(shape))
    table = normal_table()
    drawn = np.empty((len(samples), numel), dtype=np.float32)
    if _compiled():
        normal_into(drawn, table, samples, _fixed_words(key), key.seed)
        return torch.from_numpy(drawn.reshape(len(samples), *shape)).to(device)
    for place, sample in enumerate(samples):
        halves = words(key, sample, -(-numel // 2)).astype("<u4").view("<u2")[:numel]
        drawn[place] = table[halves]
    return torch.from_numpy(drawn.reshape(len(samples), *shape)).to(device)


def _fixed_words(key: NoiseKey) -> tuple[int, int]:
    return key.purpose << 24 | key.stage << 12 | key.step, key.canvas


@cache
def _compiled() -> bool:
    """Whether the compiled generator is there and agrees with this file's."""
    key, drawn = NoiseKey(2**40 + 5, 3, 1, 2, 4), np.empty((2, 70), dtype=np.float32)
    try:
        normal_into(drawn, normal_table(), range(6, 8), _fixed_words(key), key.seed)
    except OSError:
        return False
    halves = np.stack([words(key, s, 35).astype("<u4").view("<u2") for s in (6, 7)])
    return bool(np.array_equal(drawn, normal_table()[halves]))


@cache
def normal_table() -> np.ndarray:
    """The 65,536 quantiles at (i + 1/2) / 65536 of the standard normal law, float32."""
    raw = _TABLE_FILE.read_bytes()
    if hashlib.sha256(raw).hexdigest() != _TABLE_SHA256:
        raise PscError(f"{_TABLE_FILE.name} is not the table this version was released with: reinstall the package")
    upper = np.load(_TABLE_FILE).astype(np.float32) * np.float32(2.0**-TABLE_BITS)
    return np.concatenate((-upper[::-1], upper))
