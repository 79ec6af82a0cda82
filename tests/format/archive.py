"""Section 4: the profile archive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from tests.format.arithmetic import (
    LIMIT,
    erf,
    exp,
    from_grid,
    grid,
    levels,
    noise,
    pad,
    pixels,
    sampler,
    sigmoid,
    state_of,
)
from tests.format.around import Around
from tests.format.coder import Decoder, boundaries
from tests.format.container import Bad, Stream
from tests.format.windows import ARCHIVE_LAW, Halves, band, first_variance, radius

ZERO, SIGNIFICANT = 1, 2
BINS = 8


class Canvas:
    """One canvas: its cells, and what its chunks do to them."""

    def __init__(self, profile: dict[str, Any], prior: Any, seed: int, number: int, size: tuple[int, int]) -> None:
        self.p, self.prior, self.seed, self.number = profile, prior, seed, number
        w = profile["window"]
        self.shape = (3, -(-size[0] // w) * w, -(-size[1] // w) * w)
        self.basis = Halves(self.shape, w)
        self.windows = self.basis.counts[0] * self.basis.counts[1]
        count = 3 * self.windows * w * w
        self.low, self.high = np.full(count, -(2.0**40)), np.full(count, 2.0**40)
        self.kind = np.zeros(count, dtype=int)
        of_channel = np.array([0, 0, 1, 1, 2, 2])[np.tile(band(w), self.windows)]
        self.classes = np.concatenate((of_channel, of_channel + 3, of_channel + 3))
        self.around = Around(self.basis)
        self.expected, self.stages, self.tier = [4, 4, 6, 5, 6, 6], 0, 0
        self.estimate = np.zeros(self.shape, dtype=np.float32)

    def chunk(self, payload: bytes, state: int) -> None:
        """Section 4.3."""
        p, decoder = self.p, Decoder(payload)
        step = step_of(p, self.tier)
        if self.tier == 0:
            mean = np.zeros_like(self.low)
            variance = first_variance(p["window"], self.windows, ARCHIVE_LAW, halves=True) * self.around.left()
            self.stage(decoder, mean, variance, step * p["first_step"], first=True)
            z = np.rint(np.where(self.kind > 0, (self.low + self.high) * 0.5, mean))
            self.estimate = from_grid(np.clip(self.basis.synthesize(z), -LIMIT, LIMIT))
        steps, heat = (p["steps"], p["heat"]) if self.tier else (p["first_steps"], p["first_heat"])
        sigmas, denoise = levels(steps, step * heat, step * p["cold"]), self.prior.denoise
        samples = [self.sampled(denoise, sigmas, p["eta"], 0, s, 1) for s in range(p["samples"])]
        z = np.stack([self.basis.analyse(grid(x)).reshape(-1) for x in samples])
        mean = z.sum(axis=0) / float(len(z))
        self.stage(decoder, mean, self.variance(z, mean), step)
        total = np.sum([grid(x) for x in samples], axis=0)
        self.estimate = self.project(from_grid(np.rint(total / float(len(z)))))
        self.tier += 1
        if state_of(self.low, self.high) != state:
            raise Bad(f"the state after tier {self.tier - 1} of canvas {self.number} is another")

    def project(self, x: np.ndarray, inset: float | None = None) -> np.ndarray:
        """Section 4.2."""
        n, inset = grid(x), self.p["inset"] if inset is None else inset
        z = self.basis.analyse(n).reshape(-1)
        margin = np.rint((self.high - self.low) * (self.kind == SIGNIFICANT) * inset)
        moved = np.minimum(np.maximum(z, self.low + margin), self.high - margin) - z
        return from_grid(np.clip(n + self.basis.synthesize(moved), -LIMIT, LIMIT))

    def noise(self, purpose: int, step: int, sample: int) -> np.ndarray:
        return noise(self.seed, self.number, purpose, self.tier, step, sample, self.shape)

    def sampled(self, denoise: Any, sigmas: list[float], eta: float, purpose: int, which: int, sign: int) -> np.ndarray:
        def drawn(step: int) -> np.ndarray:
            return self.noise(purpose, step, which) * np.float32(sign)

        finish = partial(self.project, inset=0.0)
        return sampler(denoise, self.project, drawn, sigmas, eta, self.estimate, finish=finish)

    def variance(self, z: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Section 4.4 b."""
        w, n, s = self.p["window"], self.windows, len(z)
        r, b = radius(w, halves=True), band(w)
        total = np.zeros_like(mean)
        for one in z:
            total = total + (one - mean) * (one - mean)
        raw = np.minimum(np.rint(total / float(s - 1)), float(2**53 // (n * np.bincount(r).max())))
        raw = raw.reshape(3, n, w * w)
        sums = raw.sum(axis=1)
        members = np.maximum(np.bincount(r), 1).astype(float)
        rings = np.stack([np.bincount(r, weights=channel) for channel in sums]) / (members * float(n))
        pooled = np.maximum((sums + rings[:, r] * 8.0) / (n + 8.0), 1.0)[:, None]
        ratio = np.clip(np.rint(raw / pooled * 2.0**12), -(2.0**24), 2.0**24)
        second = (np.arange(w) % 2 == 1) & (np.arange(w) > 1)
        parts = np.where(b >= 2, 100 + 10 * np.repeat(second, w) + np.tile(second, w), 0) + 1000 * b
        gain = np.ones_like(ratio)
        for which in (b, parts):
            for part in set(which.tolist()):
                at = which == part
                total = ratio[:, :, at].sum(axis=2, keepdims=True) * 2.0**-12
                gain[:, :, at] = (total + gain[:, :, at] * 4.0) / (at.sum() + 4.0)
        shrink, free = self.p["shrink"], float(s - 1)
        return np.maximum((pooled * gain * shrink + raw * free) / (shrink + free), 1.0).reshape(-1)

    def stage(self, decoder: Decoder, mean: np.ndarray, variance: np.ndarray, step: float, first: bool = False) -> None:
        """Section 4.5; in the first stage ``mean`` is filled in."""
        width = step * 2.0**14
        cluster = self.around.clustering(self.kind == SIGNIFICANT)
        variance = variance * (cluster * cluster)
        deviation = np.sqrt(variance * self.scales(decoder, variance, width)[self.classes])
        self.halvings(decoder, mean, deviation, width)
        errors, known = np.zeros_like(mean), np.zeros_like(mean)
        for phase in range(7):
            at = self.around.phases == phase
            if first:
                values = np.where(self.kind > 0, (self.low + self.high) * 0.5, mean)
                mean[at] = self.around.expected(values)[0][at]
            factor = self.around.factor(errors, known)
            worth = deviation * deviation > self.p["threshold"] * width * width
            at = np.flatnonzero(worth & at & (self.kind != SIGNIFICANT) & (self.low < self.high))
            q, dead = self.bins(decoder, at, mean[at], deviation[at] * factor[at], width)
            unit = deviation[at] * (1 / 1.4142135623730951)
            t = dead / unit
            beyond = (dead + (np.minimum(np.abs(q), BINS) - 0.5) * width) / unit
            error = np.where(q == 0, t / np.sqrt(t * t + 4.0), beyond)
            errors[at], known[at] = np.rint(np.minimum(error, 64.0) * 256), 1

    def scales(self, decoder: Decoder, variance: np.ndarray, width: float) -> np.ndarray:
        c = np.array([2.0 ** ((j - 4) // 2) * (np.sqrt(2.0) if j % 2 else 1.0) for j in range(16)])
        fall = [2**16 * (4 if self.stages else 12) ** d // 20**d + 512 for d in range(16)]
        after = ([-1, 0, 2, -1, 0, 0], [-1, -1, 0, -1, 0, 0])[self.stages > 1]
        found, following = list(self.expected), [6, 8, 7, 8, 7, 8]
        for k, e in enumerate(self.expected):
            most = variance[(self.classes == k) & (self.kind != SIGNIFICANT)].max(initial=0.0)
            told = most * c[min(e + 1, 15)] > self.p["threshold"] * width * width
            if told:
                found[k] = decoder.symbol([fall[abs(j - e)] for j in range(16)])
            if self.stages:
                following[k] = min(max(found[k] + (after[k] if told else 0), 0), 15)
        self.stages += 1
        self.expected = following
        return c[found]

    def halvings(self, decoder: Decoder, mean: np.ndarray, deviation: np.ndarray, width: float) -> None:
        at = np.flatnonzero((self.kind == SIGNIFICANT) & (self.high - self.low > 1.5 * width))
        low, high = self.low[at], self.high[at]
        middle = np.rint((low + high) * 0.5)
        edges = (np.stack((low, middle, high), axis=1) - mean[at, None]) / deviation[at, None]
        f = cumulative(edges, self.p["law"])
        whole = f[:, 2] - f[:, 0]
        floor = whole * self.p["refine_floor"] + 2.0**-40
        mass = f[:, 1:] - f[:, :-1] + floor[:, None]
        upper = decoder.symbols(np.rint(mass * 2.0**30 / (whole + 2.0**-30)[:, None]) + 1.0)
        self.low[at] = np.where(upper == 1, middle, low)
        self.high[at] = np.where(upper == 1, high, middle)

    def bins(
        self, decoder: Decoder, at: np.ndarray, mu: np.ndarray, deviation: np.ndarray, width: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The bins of the coefficients at ``at``, and half of their zero bins."""
        p, square = self.p, width * width
        near_to_far = square / (square + deviation * deviation)
        dead = ((p["dead_zone"] - p["dead_zone_far"]) * near_to_far + p["dead_zone_far"]) * width
        reach = dead[:, None] + np.arange(BINS) * width
        end = np.full((len(at), 1), 2.0**40)
        edges = np.concatenate((-end, -reach[:, ::-1], reach, end), axis=1)
        edges = np.clip(edges, (self.low[at] - mu)[:, None], (self.high[at] - mu)[:, None]) / deviation[:, None]
        q = decoder.symbols(_bin_weights(edges, p["law"])) - BINS
        far_out = np.flatnonzero(np.abs(q) == BINS)
        q[far_out] = np.sign(q[far_out]) * (BINS - 1 + np.array(_escapes(decoder, len(far_out)), dtype=int))
        near = dead + (np.abs(q) - 1) * width
        far = near + width
        low = np.where(q == 0, mu - dead, np.where(q > 0, mu + near, mu - far))
        high = np.where(q == 0, mu + dead, np.where(q > 0, mu + far, mu - near))
        self.low[at] = np.maximum(self.low[at], np.rint(low))
        self.high[at] = np.maximum(np.minimum(self.high[at], np.rint(high)), self.low[at])
        self.kind[at] = np.where(q == 0, ZERO, SIGNIFICANT)
        return q, dead


def _bin_weights(edges: np.ndarray, law: str) -> np.ndarray:
    f = cumulative(edges, law)
    f[:, 0], f[:, -1] = 0.0, 1.0
    weights = np.rint((f[:, 1:] - f[:, :-1]) * 2.0**20) + 1.0
    weights[edges[:, 1:] <= edges[:, :-1]] = 0.0
    return weights


def _escapes(decoder: Decoder, count: int) -> list[int]:
    first, even = boundaries([2 ** (31 - k) for k in range(32)]), boundaries([1, 1])
    lengths = [decoder.under(first) for _ in range(count)]
    numbers = [1] * count
    for level in range(max(lengths, default=0)):
        for i, length in enumerate(lengths):
            if length > level:
                numbers[i] = 2 * numbers[i] + decoder.under(even)
    return numbers


def cumulative(t: np.ndarray, law: str) -> np.ndarray:
    values = _law(law)
    place = np.clip((t + 24) * 64, 0.0, 3071.0)
    i = np.floor(place).astype(int)
    return values[i] + (place - i) * (values[i + 1] - values[i])


@cache
def _law(law: str) -> np.ndarray:
    if law == "mixed":
        return (_law("laplace") + _law("logistic")) / 2
    lower: dict[str, Callable[[float], float]] = {
        "laplace": lambda t: exp(1.4142135623730951 * t) / 2,
        "gauss": lambda t: max(0.0, (1 + erf(t / 1.4142135623730951)) / 2),
        "logistic": lambda t: sigmoid(1.813799364234218 * t),
    }
    below = np.array([lower[law](i / 64) for i in range(-24 * 64, 0)])
    return np.concatenate((below, [0.5], 1.0 - below[::-1]))


def step_of(profile: dict[str, Any], tier: int) -> float:
    step = profile["step"]
    for _ in range(tier):
        step *= profile["ratio"]
    return step


def decode(stream: Stream, prior: Any, restore: str = "mean") -> Iterator[np.ndarray]:
    """Pixels of an image of several canvases, or of one, after each of its tiers."""
    canvases = [
        Canvas(stream.profile, prior, stream.seed, number, place[2:]) for number, place in enumerate(stream.canvases)
    ]
    for chunks in stream.tiers:
        for canvas, (payload, state) in zip(canvases, chunks, strict=False):
            canvas.chunk(payload, state)
        if len(canvases) == 1:
            found = _restored(stream.profile, canvases[0], restore)[:, : stream.height, : stream.width]
        else:
            found = Mosaic(stream, canvases, prior).restored(restore)
        yield pixels(found, stream.channels)


def _turned(denoise: Any, orientation: int) -> Any:
    """Left and right swapped, top and bottom swapped, before and after."""
    rows, columns = slice(None, None, -1 if orientation >= 2 else 1), slice(None, None, -1 if orientation % 2 else 1)

    def turned(x: np.ndarray, sigma: float) -> np.ndarray:
        return denoise(np.ascontiguousarray(x[:, rows, columns]), sigma)[:, rows, columns]

    return turned


def _drawn_how(profile: dict[str, Any], restore: str) -> list[tuple[int, int, int]]:
    """Of every restored sample: orientation, whose noise, and with which sign."""
    count, ways = (profile["restore_samples"], profile["restore_orientations"]) if restore == "mean" else (1, 1)
    fresh = count - count // 2
    return [(s % ways, s % fresh, 1 if s < fresh else -1) for s in range(count)]


def _restoring(profile: dict[str, Any], tiers: int, restore: str) -> tuple[list[float], float]:
    """Noise levels and eta."""
    step, name = step_of(profile, tiers - 1), "restore" if restore == "mean" else restore
    heat, cold = step * profile[f"{name}_heat"], step * profile[f"{name}_cold"]
    return levels(profile[f"{name}_steps"], heat, cold), profile[f"{name}_eta"]


def _restored(profile: dict[str, Any], canvas: Canvas, restore: str) -> np.ndarray:
    sigmas, eta = _restoring(profile, canvas.tier, restore)
    drawn = [
        canvas.sampled(_turned(canvas.prior.denoise, o), sigmas, eta, 1, which, sign)
        for o, which, sign in _drawn_how(profile, restore)
    ]
    return from_grid(np.rint(np.sum([grid(x) for x in drawn], axis=0) / float(len(drawn))))


class Mosaic:
    """Section 4.7: the canvases of an image side by side."""

    def __init__(self, stream: Stream, canvases: list[Canvas], prior: Any) -> None:
        self.stream, self.canvases, self.prior = stream, canvases, prior
        self.tiers = min(canvas.tier for canvas in canvases)

    def restored(self, restore: str) -> np.ndarray:
        profile, total = self.stream.profile, np.zeros((3, self.stream.height, self.stream.width))
        sigmas, eta = _restoring(profile, self.tiers, restore)
        every = _drawn_how(profile, restore)
        start = self.beside([canvas.estimate for canvas in self.canvases])
        for orientation, which, sign in every:

            def drawn(step: int, which: int = which, sign: int = sign) -> np.ndarray:
                parts = []
                for canvas in self.canvases:
                    key = (canvas.seed, canvas.number, 1, self.tiers, step, which, canvas.shape)
                    parts.append(noise(*key) * np.float32(sign))
                return self.beside(parts)

            finish = partial(self.project, inset=0.0)
            denoise = partial(self.denoise, orientation)
            total += grid(sampler(denoise, self.project, drawn, sigmas, eta, start, finish=finish))
        return from_grid(np.rint(total / float(len(every))))

    def beside(self, parts: list[np.ndarray]) -> np.ndarray:
        out = np.empty((3, self.stream.height, self.stream.width), dtype=np.float32)
        for (top, left, height, width), part in zip(self.stream.canvases, parts, strict=True):
            out[:, top : top + height, left : left + width] = part[:, :height, :width]
        return out

    def project(self, x: np.ndarray, inset: float | None = None) -> np.ndarray:
        parts = []
        for (top, left, height, width), canvas in zip(self.stream.canvases, self.canvases, strict=True):
            unit = math.lcm(self.stream.profile["window"], self.prior.MULTIPLE)
            part = pad(x[:, top : top + height, left : left + width], unit)
            parts.append(canvas.project(part, inset))
        own, beside = self.beside(parts), np.zeros(x.shape[1:], dtype=bool)
        for top, left, _, _ in self.stream.canvases:
            beside[max(0, top - 1) : top + (top > 0)] = True
            beside[:, max(0, left - 1) : left + (left > 0)] = True
        return np.where(beside, own + (x - own) * np.float32(1 / (2 * self.tiers)), own)

    def denoise(self, orientation: int, x: np.ndarray, sigma: float) -> np.ndarray:
        parts, denoise = [], _turned(self.prior.denoise, orientation)
        for top, left, height, width in self.stream.canvases:
            up, aside = max(0, top - 32), max(0, left - 32)
            seen = pad(x[:, up : top + height + 32, aside : left + width + 32], self.prior.MULTIPLE)
            parts.append(denoise(seen, sigma)[:, top - up :, left - aside :])
        return self.beside(parts)
