"""Section 5: the profile paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.format.arithmetic import LIMIT, from_grid, grid, levels, noise, pixels, sampler, state_of
from tests.format.coder import Decoder, boundaries
from tests.format.container import Bad, Stream


class Canvas:
    """One canvas: the rows of its measurements, and what they measured."""

    def __init__(self, profile: dict[str, Any], prior: Any, seed: int, number: int, size: tuple[int, int]) -> None:
        self.p, self.prior, self.seed, self.number = profile, prior, seed, number
        m = prior.MULTIPLE
        self.shape = (3, -(-size[0] // m) * m, -(-size[1] // m) * m)
        self.d = int(np.prod(self.shape))
        self.rows, self.values = np.empty((0, self.d)), np.empty(0)
        self.counts, self.stages = np.ones(16, dtype=int), 0
        self.scale = 1.0
        while self.scale**2 * self.d > 448**2:
            self.scale /= 2
        while 4 * self.scale**2 * self.d <= 448**2:
            self.scale *= 2

    def chunk(self, payload: bytes, state: int) -> None:
        """The stages of a tier (5.1), and their state (5.3)."""
        decoder, r = Decoder(payload), self.p["rows"]
        for _ in range(self.p["stages"]):
            rows = self.most_disagreed()
            law = boundaries([self.counts[code >> 3 & 15] for code in range(256)])
            codes = np.array([decoder.under(law) for _ in range(r)])
            self.counts += 2 * np.bincount(codes >> 3 & 15, minlength=16)
            values = np.array([_float8(code) for code in codes]) / self.scale
            self.rows = np.concatenate((self.rows, rows))
            self.values = np.concatenate((self.values, np.rint(values * 2.0**14)))
            self.stages += 1
        if state_of(self.rows[-r:], self.values[-r:]) != state:
            raise Bad(f"the state of canvas {self.number} is another")

    def project(self, x: np.ndarray) -> np.ndarray:
        """Section 5.2."""
        n = grid(x).reshape(-1)
        if len(self.rows):
            residual = self.values - np.rint(self.rows @ n * 2.0**-22)
            n = np.clip(n + np.rint(residual @ self.rows * 2.0**-22), -LIMIT, LIMIT)
        return from_grid(n).reshape(self.shape)

    def samples(self, count: int, purpose: int, stage: int) -> np.ndarray:
        """Grids (count, D)."""
        sigmas = levels(self.p["steps"], self.prior.SIGMA_MAX, self.prior.SIGMA_MIN)
        drawn = []
        for sample in range(count):

            def fresh(step: int, sample: int = sample) -> np.ndarray:
                return noise(self.seed, self.number, purpose, stage, step, sample, self.shape)

            how = {"eta": self.p["eta"], "kind": self.p["sampler"]}
            drawn.append(grid(sampler(self.prior.denoise, self.project, fresh, sigmas, **how)).reshape(-1))
        return np.stack(drawn)

    def most_disagreed(self) -> np.ndarray:
        """Rows (r, D), whole numbers on the grid 2^-22."""
        r, n = self.p["rows"], self.samples(self.p["samples"], 0, self.stages)
        centred = np.clip(np.rint(n - n.sum(axis=0) / float(len(n))), -(2.0**16), 2.0**16)
        worth, vectors = jacobi(centred @ centred.T)
        rows = np.rint(vectors[:r] * 2.0**22) @ centred
        silent = worth[:r] <= 2.0**8
        strength = np.where(silent, 1.0, np.sqrt(np.maximum(worth[:r], 0.0)) * 2.0**22)
        rows = np.where(silent[:, None], 0.0, rows / strength[:, None])
        rows = np.clip(np.rint(rows * 2.0**22), -(2.0**25), 2.0**25)
        rows = rows - _along(rows, self.rows)
        done = np.empty((0, self.d))
        for row in rows:
            row = row - _along(row[None], done)[0]
            norm = np.sqrt((row * row).sum())
            unit = np.zeros_like(row) if norm < 2.0**18 else np.rint(row / norm * 2.0**22)
            done = np.concatenate((done, unit[None]))
        return done

    def restored(self) -> np.ndarray:
        n = self.samples(self.p["restore_samples"], 1, 0)
        return from_grid(n.sum(axis=0) / float(len(n))).reshape(self.shape)


def _along(rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
    if not len(basis):
        return np.zeros_like(rows)
    return np.rint(np.rint(rows @ basis.T * 2.0**-22) @ basis * 2.0**-22)


def _float8(code: int) -> float:
    exponent, mantissa = code >> 3 & 15, code & 7
    if code & 127 == 127:
        mantissa = 6
    size = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -size if code & 128 else size


def jacobi(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Section 5.4: eigenvalues falling, eigenvectors as rows."""
    size = len(matrix)
    even = size + size % 2
    a, v = np.zeros((even, even)), np.eye(even)
    a[:size, :size] = matrix
    for _ in range(12):
        ring = list(range(even))
        for _ in range(even - 1):
            pairs = [(ring[i], ring[even - 1 - i]) for i in range(even // 2)]
            _rotate(a, v, [(min(pair), max(pair)) for pair in pairs])
            ring = [ring[0], ring[-1], *ring[1:-1]]
    values, vectors = np.diag(a)[:size], v[:size, :size]
    order = sorted(range(size), key=lambda i: -values[i])
    vectors = vectors[order]
    peaks = vectors[np.arange(size), np.argmax(np.abs(vectors), axis=1)]
    return values[order], np.where((peaks < 0)[:, None], -vectors, vectors)


def _rotate(a: np.ndarray, v: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    turns = []
    for p, q in pairs:
        if a[p, q] == 0:
            turns.append((1.0, 0.0))
            continue
        with np.errstate(over="ignore"):  # an infinite angle does not turn
            theta = (a[q, q] - a[p, p]) / (a[p, q] + a[p, q])
            t = (1.0 if theta >= 0 else -1.0) / (np.abs(theta) + np.sqrt(theta * theta + 1.0))
        c = 1.0 / np.sqrt(t * t + 1.0)
        turns.append((c, t * c))
    for m in (a, v):
        for (p, q), (c, s) in zip(pairs, turns, strict=True):
            m[p], m[q] = c * m[p] - s * m[q], s * m[p] + c * m[q]
    for (p, q), (c, s) in zip(pairs, turns, strict=True):
        a[:, p], a[:, q] = c * a[:, p] - s * a[:, q], s * a[:, p] + c * a[:, q]


def decode(stream: Stream, prior: Any) -> Iterator[np.ndarray]:
    """Pixels after each tier."""
    canvases = [
        Canvas(stream.profile, prior, stream.seed, number, place[2:]) for number, place in enumerate(stream.canvases)
    ]
    for chunks in stream.tiers:
        out = np.zeros((3, stream.height, stream.width), dtype=np.float32)
        for canvas, (payload, state) in zip(canvases, chunks, strict=False):
            canvas.chunk(payload, state)
        for (top, left, height, width), canvas in zip(stream.canvases, canvases, strict=True):
            out[:, top : top + height, left : left + width] = canvas.restored()[:, :height, :width]
        yield pixels(out, stream.channels)
