"""Section 3: grids, tables, noise, bases, noise levels, the sampler."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache
from pathlib import Path

import numpy as np

PI = Decimal("3.14159265358979323846264338327950288419716939937510582")
TABLE = Path(__file__).parents[2] / "psc_core" / "exact" / "normal_table.npy"
TABLE_SHA256 = "b77c3819cf051112ca5bccf4592dd00990b8a5dfd6f470830febc0475a298ba9"
LIMIT = 2.0**17
f32 = np.float32


def grid(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x.astype(np.float64) * 2.0**14), -LIMIT, LIMIT)


def from_grid(n: np.ndarray) -> np.ndarray:
    return (n * 2.0**-14).astype(np.float32)


def exp(x: float) -> float:
    return float(Context(prec=40).exp(Decimal(x)))


def ln(x: float) -> float:
    return float(Context(prec=40).ln(Decimal(x)))


def sigmoid(x: float) -> float:
    with localcontext(Context(prec=40)):
        return float(1 / (1 + (-Decimal(x)).exp()))


def power(x: float, y: float) -> float:
    with localcontext(Context(prec=40)):
        return float((Decimal(x).ln() * Decimal(y)).exp())


def erf(x: float) -> float:
    """|x| up to 6; beyond, its sign."""
    if abs(x) > 6:
        return 1.0 if x > 0 else -1.0
    with localcontext(Context(prec=60)):
        z = Decimal(x)
        term = total = z
        n = 0
        while term and abs(term) > Decimal(10) ** -45:
            n += 1
            term = -term * z * z / n
            total += term / (2 * n + 1)
        return float(2 * total / PI.sqrt())


def cos_pi(numerator: int, denominator: int) -> float:
    """cos(pi numerator / denominator)."""
    with localcontext(Context(prec=40)):
        angle = PI * (numerator % (2 * denominator)) / denominator
        term = total = Decimal(1)
        n = 0
        while abs(term) > Decimal(10) ** -38:
            term = -term * angle * angle / ((n + 1) * (n + 2))
            total, n = total + term, n + 2
        return float(total)


@cache
def dct(size: int) -> np.ndarray:
    matrix = np.array([[cos_pi(k * (2 * n + 1) % (4 * size), 2 * size) for n in range(size)] for k in range(size)])
    matrix = matrix * np.sqrt(2.0 / size)
    matrix[0] *= np.sqrt(0.5)
    return matrix


def dct4(size: int) -> np.ndarray:
    odd = [2 * k + 1 for k in range(size)]
    return np.array([[cos_pi(k * n % (8 * size), 4 * size) for n in odd] for k in odd]) * np.sqrt(2.0 / size)


def colour() -> np.ndarray:
    a, b, c = np.sqrt(3.0), np.sqrt(6.0), np.sqrt(2.0)
    return np.array([[1 / a, 1 / a, 1 / a], [-1 / b, -1 / b, 2 / b], [1 / c, -1 / c, 0.0]])


@cache
def table() -> np.ndarray:
    raw = TABLE.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == TABLE_SHA256
    upper = np.load(io.BytesIO(raw)).astype(np.float32) * f32(2.0**-12)
    return np.concatenate((-upper[::-1], upper))


def words(
    seed: int, canvas: int, purpose: int, stage: int, step: int, sample: int, count: int, *, first: int = 0
) -> np.ndarray:
    """``count`` words from block ``first``, uint64 below 2^32."""
    x = [np.arange(first, first + -(-count // 4), dtype=np.uint64)]
    x += [np.full_like(x[0], v) for v in (sample, purpose << 24 | stage << 12 | step, canvas)]
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p, q = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [q >> half ^ x[1] ^ np.uint64(key[0]), q & low, p >> half ^ x[3] ^ np.uint64(key[1]), p & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(x, axis=1).reshape(-1)[:count]


def noise(
    seed: int, canvas: int, purpose: int, stage: int, step: int, sample: int, shape: tuple[int, ...]
) -> np.ndarray:
    """One sample's noise."""
    count = math.prod(shape)
    drawn = words(seed, canvas, purpose, stage, step, sample, -(-count // 2))
    numbers = np.stack((drawn & np.uint64(0xFFFF), drawn >> np.uint64(16)), axis=1).reshape(-1)[:count]
    return table()[numbers.astype(np.int64)].reshape(shape)


def state_of(*arrays: np.ndarray) -> int:
    """Sections 4.6, 5.3 and 6.6."""
    digest = hashlib.sha256(b"".join((array + 0.0).astype("<f8").tobytes() for array in arrays)).digest()
    return int.from_bytes(digest[:2], "little")


def levels(count: int, first: float, last: float) -> list[float]:
    if count == 1:
        return [first]
    a, b = _root(first), _root(last)
    return [_seventh(a + i / (count - 1) * (b - a)) for i in range(count)]


def _root(value: float) -> float:
    x = max(value, 1.0)
    for _ in range(60):
        s = x * x
        x = x - (x - value / (s * s * s)) / 7
    return x


def _seventh(x: float) -> float:
    s = x * x
    return s * s * s * x


def sampler(
    denoise: Callable[[np.ndarray, float], np.ndarray],
    project: Callable[[np.ndarray], np.ndarray],
    noise_of: Callable[[int], np.ndarray],
    sigmas: list[float],
    eta: float,
    start: np.ndarray | None = None,
    kind: str = "ddrm",
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    x = noise_of(0) * f32(sigmas[0])
    if start is not None:
        x = project(start) + x
    for i, sigma in enumerate(sigmas):
        last = i == len(sigmas) - 1
        clean = (finish if finish and last else project)(denoise(x, sigma))
        if last:
            break
        following = sigmas[i + 1]
        if kind == "ddpm":
            kept = following * following / (sigma * sigma)
            x = clean + (x - clean) * f32(kept)
            x = x + noise_of(i + 1) * f32(following * math.sqrt(1 - kept))
            continue
        x = clean + (x - clean) * f32(following * math.sqrt(1 - eta * eta) / sigma)
        if eta:
            x = x + noise_of(i + 1) * f32(following * eta)
    return clean


def reflected(length: int, padded: int) -> np.ndarray:
    """Indices that reflect a side up to ``padded``."""
    if length == 1:
        return np.zeros(padded, dtype=np.int64)
    place = np.arange(padded) % (2 * (length - 1))
    return np.minimum(place, 2 * (length - 1) - place)


def pad(x: np.ndarray, multiple: int) -> np.ndarray:
    """Reflect (C, H, W) at its lower and right border."""
    height, width = x.shape[1:]
    rows, columns = (reflected(n, -(-n // multiple) * multiple) for n in (height, width))
    return x[:, rows][:, :, columns]


def pixels(x: np.ndarray, channels: int) -> np.ndarray:
    """(C, H, W) to uint8 (H, W, channels)."""
    colours = np.clip(np.rint((x + f32(1)) * f32(127.5)), 0, 255).astype(np.int64).transpose(1, 2, 0)
    return (colours if channels == 3 else (colours.sum(axis=2, keepdims=True) + 1) // 3).astype(np.uint8)
