"""DiffC on canvases: in every step both sides denoise, and a sample of x_s given x_t and the image is sent.

In variance-exploding terms, x_t = x + t n: q(x_s | x_t, x) has mean x + (s/t)^2 (x_t - x), variance s^2 (1 - (s/t)^2).
p(x_s | x_t) has D(x_t, t) in the place of x, and is wider by what is unknown of x in each band of a window DCT: so few
steps lose nothing to the coarseness of the schedule. A band whose unknown part is far below the noise is left out,
moves along the probability flow, and is sent later in one larger step from the level at which it was sent last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from psc_core.diffc.band_variance import BandVariances
from psc_core.diffc.bands import Bands
from psc_core.diffc.chunks import Chunks, cut
from psc_core.diffc.codebook import Codebook, Draws
from psc_core.diffc.poisson import search
from psc_core.diffc.schedule import group_levels
from psc_core.diffc.zipf import RankLaw, exchange_ranks
from psc_core.exact import fixed, noise
from psc_core.priors.base import Prior
from psc_core.profiles import DiffCProfile
from psc_core.samplers.ddpm import projected_ddpm
from psc_core.samplers.flow import probability_flow
from psc_core.samplers.schedule import karras
from psc_core.sides import Side
from psc_core.state import state_hash
from psc_core.windows import WindowBasis

_FILLING, _RESTORING = 0, 1
_GRID = 2.0**fixed.PIXEL_BITS
_LIMIT = 2.0**23
_ASKED = 0.6
"""A band's variance is corrected once it is expected to be this near to the threshold."""
_MOST = 127.0
"""Variance over that of the noise: more is never needed, and the search's sums are bounded by it."""


class DiffCCanvases:
    """A batch of canvases of one shape, coded in lockstep; each one's bytes are as if it were alone."""

    def __init__(
        self, prior: Prior, profile: DiffCProfile, shape: tuple[int, int], keys: Sequence[int], seed: int
    ) -> None:
        self.prior, self.profile, self.seed, self.keys = prior, profile, seed, list(keys)
        self.shape = (prior.channels, *shape)
        self.bands = Bands(WindowBasis(*self.shape, profile.window, prior.device))
        self.unknown = BandVariances(self.bands.photographs(), len(self.keys))
        self.laws = [RankLaw(profile.candidates) for _ in self.keys]
        self.book = Codebook(profile.candidates, prior.device)
        size = (len(self.keys), int(self.bands.starts[-1]))
        self.now, self.sent = np.zeros(size), np.zeros(size)
        self.precision = np.zeros((len(self.keys), self.bands.count))
        """1/s^2 of the level s at which each band was sent last; 0 if never."""
        self.level: float | None = None
        self.group = self.steps_done = 0
        self.estimate = torch.zeros(len(self.keys), *self.shape, dtype=torch.float32, device=prior.device)
        self._known: tuple[Tensor, np.ndarray] | None = None
        self.watch: Callable[[np.ndarray, np.ndarray], None] | None = None
        """At the encoder, told the means (m,) and variances (m,) of what is sent, in units of the noise."""

    @staticmethod
    def multiple(profile: DiffCProfile) -> int:
        """Canvases are padded to whole windows."""
        return profile.window

    def run_group(self, side: Side) -> None:
        """The steps up to the next cut point, then the estimate E[x | x_t] there."""
        tier, group = divmod(self.group, self.profile.steps)
        for level in group_levels(self.profile, tier, group):
            self.step(side, level)
            self.estimate = self.prior.denoise(self._image(), level)
        self.group += 1

    def step(self, side: Side, level: float) -> None:
        """From the present noise level to ``level``."""
        expected = self.bands.analyse(self.estimate)
        room = 1.0 / (level * level) - self.precision
        asked = self.unknown.values * room >= _ASKED * self.profile.threshold
        self.unknown.exchange(side, lambda truth: self.bands.mean_square(self._truth(truth) - expected), asked)
        variance = np.minimum(self.unknown.values * room, _MOST)
        sent = asked & (variance >= self.profile.threshold)
        chunks = [cut(self.bands.starts, v, s, self.profile.chunk_bits) for v, s in zip(variance, sent, strict=True)]
        samples = self._communicate(side, expected, room, chunks)
        self._move(expected, level, chunks, samples)
        self.unknown.reduce(sent, variance)
        self.precision = np.where(sent, 1.0 / (level * level), self.precision)
        self.level, self.steps_done = level, self.steps_done + 1

    def state_hashes(self) -> list[int]:
        """16 bits of every canvas's coefficients."""
        return [state_hash(now) for now in self.now]

    def restore(self, how: str) -> Tensor:
        """(B, C, H, W), all exact where the arithmetic is.

        ``mean``: E[x | x_t], the least distortion. ``flow``: DiffC-F, the probability-flow ODE from x_t, as realistic
        as the prior and nearer to the image than ``ancestral``, DiffC-A. ``perceptual`` is ``flow``.
        """
        if how == "mean" or self.level is None:
            return self.estimate
        last = max(self.prior.sigma_min, self.level / 100.0)
        if how == "ancestral":
            sigmas = karras(self.profile.ancestral_steps, self.level, min(last, self.level))
            return projected_ddpm(self.prior.denoise, lambda x: x, self._fresh, sigmas, self._image(), heat=False)
        sigmas = karras(self.profile.flow_steps, self.level, min(last, self.level))
        return probability_flow(self.prior.denoise, self._image(), sigmas)

    def _communicate(
        self, side: Side, expected: np.ndarray, room: np.ndarray, chunks: Sequence[Chunks]
    ) -> list[np.ndarray]:
        """Samples (m,) of q for the coefficients that are sent, less the mean of p, in units of the noise."""
        pairs = [
            (plan, Draws(self.seed, key, self.steps_done, plan.count, self.book.size))
            for key, plan in zip(self.keys, chunks, strict=True)
        ]
        scale = self.bands.spread(np.sqrt(room)) * (1.0 / _GRID)

        def wanted(truth: Tensor) -> list[np.ndarray]:
            error = (self._truth(truth) - expected) * scale
            return [self._ranks(plan, draws, error[b, plan.places]) for b, (plan, draws) in enumerate(pairs)]

        ranks = exchange_ranks(side, wanted, self.laws, [plan.bits for plan in chunks])
        out = []
        for (plan, draws), rank in zip(pairs, ranks, strict=True):
            z = plan.flat(self.book.winners(rank, draws, plan.width))
            out.append(z * np.sqrt(plan.variance + 1.0))
        return out

    def _ranks(self, chunks: Chunks, draws: Draws, mu: np.ndarray) -> np.ndarray:
        if self.watch is not None:
            self.watch(mu, chunks.variance)
        return search(self.book, chunks, draws, mu)

    def _move(
        self, expected: np.ndarray, level: float, chunks: Sequence[Chunks], samples: Sequence[np.ndarray]
    ) -> None:
        """Put the samples in; what was not sent moves along the probability flow, or begins as noise."""
        if self.level is None:
            now = expected + self._noise() * (level * _GRID)
        else:
            now = expected + (self.now - expected) * (level / self.level)
        kept = level * level * self.precision
        width = self.bands.spread(level * np.sqrt(1.0 - kept)) * _GRID
        kept = self.bands.spread(kept)
        for b, (plan, y) in enumerate(zip(chunks, samples, strict=True)):
            at = plan.places
            mean = expected[b, at] + (self.sent[b, at] - expected[b, at]) * kept[b, at]
            now[b, at] = mean + y * width[b, at]
        self.now = np.clip(np.rint(now), -_LIMIT, _LIMIT)
        for b, plan in enumerate(chunks):
            self.sent[b, plan.places] = self.now[b, plan.places]

    def _truth(self, truth_BCHW: Tensor) -> np.ndarray:
        """Coefficients of the truth, computed once; encoder only."""
        if self._known is None or self._known[0] is not truth_BCHW:
            self._known = (truth_BCHW, self.bands.analyse(truth_BCHW))
        return self._known[1]

    def _image(self) -> Tensor:
        return self.bands.synthesize(self.now, self.prior.device)

    def _noise(self) -> np.ndarray:
        """Standard normal coefficients (B, K), float64."""
        keys = (noise.NoiseKey(self.seed, key, _FILLING, self.steps_done, 0) for key in self.keys)
        return np.concatenate([noise.normal(key, range(1), (self.now.shape[1],)).numpy() for key in keys]).astype(
            np.float64
        )

    def _fresh(self, step: int) -> Tensor:
        keys = (noise.NoiseKey(self.seed, key, _RESTORING, self.steps_done, step) for key in self.keys)
        return torch.cat([noise.normal(key, range(1), self.shape, self.prior.device) for key in keys])
