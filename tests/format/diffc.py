"""Section 6: the profile diffc."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from tests.format.arithmetic import from_grid, grid, ln, noise, pixels, power, state_of, table, words
from tests.format.coder import Decoder, boundaries
from tests.format.container import Bad, Stream
from tests.format.windows import Windows, first_variance, radius

RINGS = np.array([0, 1, 2, 3, 5, 8, 12, 18, 26])
FIRST_CORRECTIONS = (1, 1, 1, 1, 2, 4, 12, 80, 140, 24, 8, 4, 2, 1, 1, 1, 1)
FIRST_RANKS = {4: 30, 5: 12, 6: 8}


class Canvas:
    """One canvas: its coefficients at the present noise level, band by band."""

    def __init__(self, profile: dict[str, Any], prior: Any, seed: int, number: int, size: tuple[int, int]) -> None:
        self.p, self.prior, self.seed, self.number = profile, prior, seed, number
        w = profile["window"]
        self.shape = (3, -(-size[0] // w) * w, -(-size[1] // w) * w)
        self.basis = Windows(self.shape, w)
        windows = self.basis.counts[0] * self.basis.counts[1]
        self._sort(w, windows)
        law = np.rint(np.sqrt(first_variance(w, windows)[self.places]))
        whole = np.clip(np.rint(law * 2.0**-4), -(2.0**17), 2.0**17)
        sums = np.array([(whole[a:b] ** 2).sum() for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)])
        self.unknown = np.clip(sums / np.maximum(self.sizes, 1) * 2.0**-20, 2.0**-40, 2.0**20)
        self.corrections = np.array(FIRST_CORRECTIONS)
        self.ranks = np.array([FIRST_RANKS.get(d, 100 if d < 4 else 4) for d in range(-20, 21)])
        self.now, self.sent = np.zeros(len(self.places)), np.zeros(len(self.places))
        self.precision = np.zeros(len(self.sizes))
        self.level: float | None = None
        self.groups = self.steps = 0
        self.estimate = np.zeros(self.shape, dtype=np.float32)

    def _sort(self, w: int, windows: int) -> None:
        """Section 6.1: coefficients by band, within it by frequency, then window."""
        ring = np.searchsorted(RINGS, radius(w) * 32 // w, side="right") - 1
        place = np.arange(3 * windows * w * w).reshape(3, windows, w * w).transpose(0, 2, 1)
        band = np.broadcast_to((np.arange(3)[:, None] * len(RINGS) + ring)[:, :, None], place.shape).reshape(-1)
        order = np.argsort(band, kind="stable")
        self.places = place.reshape(-1)[order]
        self.sizes = np.bincount(band, minlength=3 * len(RINGS))
        self.starts = np.concatenate(([0], np.cumsum(self.sizes)))

    def chunk(self, payload: bytes, state: int) -> None:
        """Section 6.2."""
        decoder, (tier, group) = Decoder(payload), divmod(self.groups, self.p["steps"])
        for level in group_levels(self.p, tier, group):
            self.step(decoder, level)
            z = np.empty_like(self.now)
            z[self.places] = self.now
            self.estimate = self.prior.denoise(from_grid(self.basis.synthesize(z)), level)
        self.groups += 1
        if state_of(self.now) != state:
            raise Bad(f"the state of canvas {self.number} is another")

    def step(self, decoder: Decoder, level: float) -> None:
        threshold = self.p["threshold"]
        expected = self.basis.analyse(grid(self.estimate)).reshape(-1)[self.places]
        room = 1.0 / (level * level) - self.precision
        asked = self.unknown * room >= 0.6 * threshold
        self.correct(decoder, np.flatnonzero(asked))
        variance = np.minimum(self.unknown * room, 127.0)
        sent = asked & (variance >= threshold)
        at, of_each, begins, bits = self.cut(variance, sent)
        z = self.winners(self.read_ranks(decoder, bits), begins)
        self.move(expected, level, at, z * np.sqrt(of_each + 1.0))
        self.unknown = np.where(sent, np.maximum(self.unknown / (1.0 + variance), 2.0**-40), self.unknown)
        self.precision = np.where(sent, 1.0 / (level * level), self.precision)
        self.level, self.steps = level, self.steps + 1

    def correct(self, decoder: Decoder, bands: np.ndarray) -> None:
        law = boundaries(self.corrections.tolist())
        symbols = np.array([decoder.under(law) for _ in bands], dtype=int)
        self.corrections = self.corrections + 16 * np.bincount(symbols, minlength=17)
        self.unknown[bands] = np.clip(self.unknown[bands] * 2.0 ** (symbols - 8), 2.0**-40, 2.0**20)

    def cut(self, variance: np.ndarray, sent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Section 6.3: places, their variances, where runs begin, and the bits that each is expected to take."""
        bands = np.flatnonzero(sent)
        if not len(bands):
            none = np.zeros(0, dtype=int)
            return none, none.astype(float), np.zeros(1, dtype=int), none
        at = np.concatenate([np.arange(self.starts[b], self.starts[b + 1]) for b in bands])
        cost = np.concatenate([np.full(self.sizes[b], expected_bits(variance[b])) for b in bands])
        target = 4096 * self.p["chunk_bits"]
        before = np.concatenate(([0], np.cumsum(np.maximum(cost, target // 127 + 1))))
        count = -(-int(before[-1]) // target)
        run = before[:-1] * count // before[-1]
        begins = np.array([*np.unique(run, return_index=True)[1], len(at)])
        spent = np.concatenate(([0], np.cumsum(cost)))[begins]
        return at, np.repeat(variance[bands], self.sizes[bands]), begins, (np.diff(spent) + 2048) // 4096

    def read_ranks(self, decoder: Decoder, bits: np.ndarray) -> np.ndarray:
        """Section 6.4."""
        most, even = self.p["candidates"], boundaries([1, 1])
        away = [np.clip(np.arange(most + 1) - k, -20, 20) + 20 for k in bits]
        tops = [decoder.symbol(self.ranks[places].tolist()) for places in away]
        for top, k in zip(tops, bits, strict=True):
            self.ranks[np.clip(top - k, -20, 20) + 20] += 64
        numbers = [1] * len(tops)
        for depth in range(max(tops, default=0)):
            for i, top in enumerate(tops):
                if top > depth:
                    numbers[i] = 2 * numbers[i] + decoder.under(even)
        return np.array(numbers, dtype=int) - 1

    def winners(self, ranks: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Section 6.5: the candidates of these ranks, one after the other."""
        own = words(self.seed, self.number, 17, self.steps, 0, 0, 5 * len(ranks)).reshape(-1, 5)
        out = [np.zeros(0)]
        for rank, mine, width in zip(ranks.tolist(), own, np.diff(begins), strict=True):
            row = (rank + int(mine[0])) % (1 << self.p["candidates"])
            z = table()[halves(row * 16, 16)].astype(float)
            bits = (mine[1:, None] >> np.arange(32, dtype=np.uint64) & np.uint64(1)).reshape(-1)
            out.append((z * (1.0 - 2.0 * bits.astype(float)))[:width])
        return np.concatenate(out)

    def move(self, expected: np.ndarray, level: float, at: np.ndarray, y: np.ndarray) -> None:
        """Section 6.6."""
        if self.level is None:
            fresh = noise(self.seed, self.number, 0, self.steps, 0, 0, self.now.shape).astype(float)
            now = expected + fresh * (level * 2.0**14)
        else:
            now = expected + (self.now - expected) * (level / self.level)
        kept = level * level * self.precision
        width = np.repeat(level * np.sqrt(1.0 - kept), self.sizes)[at] * 2.0**14
        kept = np.repeat(kept, self.sizes)[at]
        now[at] = expected[at] + (self.sent[at] - expected[at]) * kept + y * width
        self.now = np.clip(np.rint(now), -(2.0**23), 2.0**23)
        self.sent[at] = self.now[at]


@cache
def halves(block: int, count: int) -> np.ndarray:
    """Numbers of the noise under the candidates' key: of ``count`` blocks from ``block``."""
    drawn = words(0, 0, 255, 0, 0, 0, 4 * count, first=block)
    return np.stack((drawn & np.uint64(0xFFFF), drawn >> np.uint64(16)), axis=1).reshape(-1).astype(int)


def expected_bits(variance: float) -> int:
    return round(ln(1.0 + float(variance)) / ln(2.0) * 2048.0)


def group_levels(profile: dict[str, Any], tier: int, group: int) -> list[float]:
    """The noise levels of one chunk's steps."""
    groups, first, ratio = profile["steps"], profile["first_sigma"], profile["ratio"]
    count = groups if tier else profile["first_steps"]
    start = profile["sigma"]
    for _ in range(tier - 1):
        start *= ratio
    steps = range(count * group // groups + 1, count * (group + 1) // groups + 1)
    if tier == 0:
        return [first * power(profile["sigma"] / first, (step - 1) / max(1, count - 1)) for step in steps]
    return [start * power(ratio, step / count) for step in steps]


def decode(stream: Stream, prior: Any) -> Iterator[np.ndarray]:
    """Pixels after each tier, restored by the mean."""
    canvases = [
        Canvas(stream.profile, prior, stream.seed, number, place[2:]) for number, place in enumerate(stream.canvases)
    ]
    for chunks in stream.tiers:
        for place, (payload, state) in enumerate(chunks):
            canvases[place % len(canvases)].chunk(payload, state)
        out = np.zeros((3, stream.height, stream.width), dtype=np.float32)
        for (top, left, height, width), canvas in zip(stream.canvases, canvases, strict=True):
            out[:, top : top + height, left : left + width] = canvas.estimate[:, :height, :width]
        yield pixels(out, stream.channels)
