"""Measuring coefficients against their posterior: which ones, with what law, into which cell.

A stage codes, for each class of coefficients, one index for how over-confident the samples' variance is (c, in
powers of sqrt 2); then one halving of every cell that is still wider than the step; then the bin of every other
coefficient whose variance c x lambda is worth it, around its posterior mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from psc_core.archive.cells import SIGNIFICANT, ZERO, Cells
from psc_core.archive.laws import bin_weights, cumulative
from psc_core.archive.quantizer import BINS, Quantizer
from psc_core.archive.scales import CLASSES, ScaleIndices, fitting
from psc_core.archive.surroundings import PHASES, Surroundings, clustering, phase_of
from psc_core.archive.variance import band_of
from psc_core.coding.elias_gamma import exchange_gamma
from psc_core.exact import fixed
from psc_core.profiles import ArchiveProfile
from psc_core.sides import Side

_GRID = 2.0**fixed.PIXEL_BITS
_GEOMETRIC = np.array([1 << (31 - k) for k in range(32)], dtype=np.int64)
"""Of the leading bit's position in what a bin is beyond the last symbol, and 1."""

Expected = Callable[[np.ndarray], np.ndarray]


class _Known(NamedTuple):
    """What both sides hold at a stage: arrays (B, K) in grid steps; the cells are narrowed in place."""

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray
    kind: np.ndarray
    width: float
    """The quantizer's step."""


class PredictiveCoder:
    """Codes stages of a batch of canvases and narrows their cells."""

    def __init__(self, profile: ArchiveProfile, cells: Cells) -> None:
        self.profile, self.cells = profile, cells
        basis = cells.basis
        colour = np.repeat(np.minimum(np.arange(basis.shape[0]), 1), basis.shape[1] * basis.shape[2])
        self.classes = colour * 3 + np.array([0, 0, 1, 1, 2, 2])[band_of(basis)]
        self.indices = ScaleIndices(cells.low.shape[0])
        phases = phase_of(basis)
        self.phases = [np.flatnonzero(phases == k) for k in range(PHASES)]
        self.truth_of: tuple[Tensor, np.ndarray] | None = None

    def stage(self, side: Side, expected: Expected, variance_BK: Tensor, step: float) -> np.ndarray:
        """Exchange one stage's symbols and narrow the cells; gives the means (B, K) that the cells were laid around.

        Args:
            expected: the posterior's mean (B, K) given what is known of every coefficient (B, K), in grid steps; asked
                before every phase.
            variance_BK: the posterior's variance, in squared grid steps.
            step: quantizer step in pixel units.
        """
        cells, width = self.cells, step * _GRID
        variance, low, high, kind = (x.cpu().numpy() for x in (variance_BK, cells.low, cells.high, cells.kind))
        cluster = clustering(kind, cells.basis)
        variance = variance * (cluster * cluster)
        scale = self._scales(side, expected, variance, kind, width)
        mean = expected(_values(np.zeros_like(low), low, high, kind)).copy()
        known = _Known(mean, np.sqrt(variance * scale), low, high, kind, width)
        self._refine(side, known)
        around = Surroundings(len(mean), cells.basis)
        for phase in self.phases:
            mean[:, phase] = expected(_values(mean, low, high, kind))[:, phase]
            self._acquire(side, known, phase, around)
        cells.low, cells.high, cells.kind = (torch.from_numpy(x).to(cells.low.device) for x in (low, high, kind))
        return mean

    def _scales(
        self, side: Side, expected: Expected, variance: np.ndarray, kind: np.ndarray, width: float
    ) -> np.ndarray:
        """c of every coefficient (B, K), chosen by the encoder a class at a time."""
        usual, least = self.indices.expected, self.profile.threshold * width * width
        needed = self.indices.needed(self._most(variance, kind), least)

        def fit(errors: np.ndarray, b: int, k: int) -> int:
            live = (self.classes == k) & (kind[b] != SIGNIFICANT)
            return fitting(errors[b][live], variance[b][live], int(usual[b, k]), least)

        def wanted(truth: Tensor) -> list[np.ndarray]:
            z = self._truth(truth)
            errors = z - expected(z)
            return [np.array([fit(errors, b, k) for k in range(CLASSES) if n[k]]) for b, n in enumerate(needed)]

        found = side.exchange(wanted, self.indices.weights(needed), [int(n.sum()) for n in needed])
        return self.indices.learn(found, needed)[:, self.classes]

    def _most(self, variance: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """The largest variance (B, classes) of coefficients without a proper bin."""
        live = np.where(kind != SIGNIFICANT, variance, 0.0)
        return np.stack([live[:, self.classes == k].max(axis=1, initial=0.0) for k in range(CLASSES)], axis=1)

    def _refine(self, side: Side, known: _Known) -> None:
        """Halve every significant cell that is wider than the step."""
        mean, deviation, low, high, kind, width = known
        places = [
            np.flatnonzero((k == SIGNIFICANT) & (h - l > 1.5 * width)) for k, l, h in zip(kind, low, high, strict=True)
        ]
        weights, middles = [], []
        for b, place in enumerate(places):
            lo, hi, mu, s = low[b, place], high[b, place], mean[b, place], deviation[b, place]
            middle = np.rint((lo + hi) * 0.5)
            edges = (np.stack((lo, middle, hi), axis=1) - mu[:, None]) / s[:, None]
            f = cumulative(edges, self.profile.law)
            mass = f[:, 1:] - f[:, :-1]
            floor = (f[:, 2] - f[:, 0]) * self.profile.refine_floor + 2.0**-40
            weights.append(np.rint((mass + floor[:, None]) * 2.0**30 / (f[:, 2] - f[:, 0] + 2.0**-30)[:, None]) + 1.0)
            middles.append(middle)

        def wanted(truth: Tensor) -> list[np.ndarray]:
            z = self._truth(truth)
            return [(z[b, place] >= middles[b]).astype(np.int32) for b, place in enumerate(places)]

        halves = side.exchange(wanted, weights, [len(p) for p in places])
        for b, (place, half) in enumerate(zip(places, halves, strict=True)):
            upper = np.asarray(half) > 0
            low[b, place] = np.where(upper, middles[b], low[b, place])
            high[b, place] = np.where(upper, high[b, place], middles[b])

    def _acquire(self, side: Side, known: _Known, phase: np.ndarray, around: Surroundings) -> None:
        """Measure what is worth it among the coefficients of a phase that have no proper bin, nor one value, yet."""
        mean, deviation, low, high, kind, width = known
        worth = deviation[:, phase] * deviation[:, phase] > self.profile.threshold * width * width
        open_ = (kind[:, phase] != SIGNIFICANT) & (low[:, phase] < high[:, phase])
        places = [phase[w & o] for w, o in zip(worth, open_, strict=True)]
        factor = around.factor()
        quantizers, weights = [], []
        for b, place in enumerate(places):
            mu, s = mean[b, place], deviation[b, place] * factor[b, place]
            quantizers.append(Quantizer.around(mu, s, width, self.profile))
            edges = quantizers[b].edges()
            edges = np.clip(edges, (low[b, place] - mu)[:, None], (high[b, place] - mu)[:, None])
            weights.append(bin_weights(edges / s[:, None], self.profile.law))

        def wanted(truth: Tensor) -> list[np.ndarray]:
            z = self._truth(truth)
            inside = [_moved_in(z[b, p], low[b, p], high[b, p]) for b, p in enumerate(places)]
            found = (quantizer.bins(own) for quantizer, own in zip(quantizers, inside, strict=True))
            return [(np.clip(q, -BINS, BINS) + BINS).astype(np.int32) for q in found]

        symbols = side.exchange(wanted, weights, [len(p) for p in places])
        bins = [np.asarray(s, dtype=np.int64) - BINS for s in symbols]
        self._escapes(side, places, quantizers, bins)
        for b, (place, quantizer, q) in enumerate(zip(places, quantizers, bins, strict=True)):
            lower, upper = quantizer.cells(q)
            low[b, place] = np.maximum(low[b, place], lower)
            high[b, place] = np.maximum(np.minimum(high[b, place], upper), low[b, place])
            kind[b, place] = np.where(q == 0, ZERO, SIGNIFICANT)
            around.measured(b, place, np.minimum(np.abs(q), BINS), deviation[b, place], width, quantizer.dead)

    def _escapes(
        self, side: Side, places: list[np.ndarray], quantizers: list[Quantizer], bins: list[np.ndarray]
    ) -> None:
        """Bins beyond the last symbol, as Elias-gamma numbers; ``bins`` are replaced by the true ones."""
        far = [np.flatnonzero(np.abs(q) == BINS) for q in bins]

        def excess(truth: Tensor) -> list[np.ndarray]:
            z = self._truth(truth)
            found = (quantizers[b].bins(z[b, p])[far[b]] for b, p in enumerate(places))
            return [np.maximum(np.abs(q) - BINS, 0) + 1 for q in found]

        values = exchange_gamma(side, excess, [_GEOMETRIC] * len(far), [len(f) for f in far])
        for b_far, q, value in zip(far, bins, values, strict=True):
            q[b_far] = np.sign(q[b_far]) * (BINS + value - 1)

    def _truth(self, truth_BCHW: Tensor) -> np.ndarray:
        """Coefficients of the truth (B, K), computed once."""
        if self.truth_of is None or self.truth_of[0] is not truth_BCHW:
            self.truth_of = (truth_BCHW, self.cells.coefficients(truth_BCHW[:, None])[:, 0].cpu().numpy())
        return self.truth_of[1]


def _moved_in(z: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The truth (n,), where it lies just outside of its cell moved in."""
    return np.clip(z, low + 1e-6, np.maximum(high - 1e-6, low + 1e-6))


def _values(mean: np.ndarray, low: np.ndarray, high: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Middles of the cells of what is coded, means of what is not."""
    return np.where(kind > 0, (low + high) * 0.5, mean)
