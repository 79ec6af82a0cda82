"""Structured PSC: a few posterior samples give every coefficient of a window basis a variance, and all that are worth
their bits are measured at once; later tiers refine. Encoder and decoder run the same stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from psc_core.archive.cells import Cells
from psc_core.archive.flips import seen_flipped
from psc_core.archive.lapped import LappedBasis
from psc_core.archive.neighbours import first_mean, first_variance
from psc_core.archive.predictive import PredictiveCoder
from psc_core.archive.variance import posterior_variance
from psc_core.canvas import Canvas
from psc_core.exact import fixed, noise
from psc_core.priors.base import Prior
from psc_core.profiles import ArchiveProfile
from psc_core.samplers.ddrm import Noise, ddrm
from psc_core.samplers.schedule import karras
from psc_core.sides import Side
from psc_core.state import state_hash

_SENSING, RESTORING = range(2)


class Piece(NamedTuple):
    """A canvas replayed: what is known of it, and its estimate (C, h, w), padded to whole windows."""

    canvas: Canvas
    cells: Cells
    estimate: Tensor
    tiers: int


class StructuredCanvases:
    """A batch of canvases of one shape, coded in lockstep; each one's bytes are as if it were alone."""

    def __init__(
        self, prior: Prior, profile: ArchiveProfile, shape: tuple[int, int], keys: Sequence[int], seed: int
    ) -> None:
        self.prior, self.profile, self.seed = prior, profile, seed
        self.keys = list(keys)
        self.shape = (prior.channels, *shape)
        self.basis = LappedBasis(*self.shape, profile.window, prior.device)
        self.cells = Cells(self.basis, len(self.keys), prior.device)
        self.coder = PredictiveCoder(profile, self.cells)
        self.tier = 0
        self.estimate = torch.zeros(len(self.keys), *self.shape, dtype=torch.float32, device=prior.device)

    @staticmethod
    def multiple(profile: ArchiveProfile) -> int:
        """Canvases are padded to whole windows."""
        return profile.window

    def run_group(self, side: Side) -> None:
        """One tier: where the posterior is (from a model of photographs, then from samples), then what is measured."""
        step = step_of(self.profile, self.tier)
        if self.tier == 0:
            variance = first_variance(self.basis, self.prior.device).expand_as(self.cells.low)
            expected = partial(first_mean, basis=self.basis)
            found = self.coder.stage(side, expected, variance, step * self.profile.first_step)
            self.estimate = self._from_cells(torch.from_numpy(found).to(self.prior.device))
        samples = self._sense(step)
        z = self.cells.coefficients(samples)
        mean = _ordered_mean(z)
        variance = posterior_variance(z, mean, self.basis, self.profile.shrink)
        known = mean.cpu().numpy()
        self.coder.stage(side, lambda _: known, variance, step)
        self.estimate = self.cells.project(_image_mean(samples)[:, None], self.profile.inset)[:, 0]
        self.tier += 1

    def state_hashes(self) -> list[int]:
        """16 bits of the cells of every canvas."""
        parts = zip(self.cells.low.cpu().numpy(), self.cells.high.cpu().numpy(), strict=True)
        return [state_hash(low, high) for low, high in parts]

    def piece(self, index: int, canvas: Canvas) -> Piece:
        """What is known of one canvas of the batch."""
        return Piece(canvas, self.cells.alone(index), self.estimate[index], self.tier)

    def restore(self, how: str) -> Tensor:
        """The ``mean`` of samples (low distortion), or one ``perceptual`` sample: (B, C, H, W)."""
        return _image_mean(self._draw(RESTORING, restoration(self.profile, self.tier, how, self.prior)))

    def _sense(self, step: float) -> Tensor:
        """Posterior samples given the cells: the last estimate, re-noised to about its own error."""
        p = self.profile
        steps, heat = (p.steps, p.heat) if self.tier else (p.first_steps, p.first_heat)
        return self._draw(_SENSING, Drawing(p.samples, karras(steps, step * heat, step * p.cold), p.eta))

    def _draw(self, purpose: int, plan: Drawing) -> Tensor:
        """Samples (B, S, C, H, W) on their way are drawn into their cells' insides; the last may touch the borders.

        A last one drawn inside too moves what was measured against what was not, and the windows show.
        """
        start = self.estimate[:, None].expand(-1, plan.samples, *self.shape)
        begin, finish = self._project(start.flatten(0, 1)), partial(self._project, inset=0.0)
        denoise = seen_flipped(self.prior.denoise, plan.samples, plan.orientations)
        flat = ddrm(denoise, self._project, self._noise(purpose, plan), plan.sigmas, plan.eta, begin, finish)
        return flat.view(start.shape)

    def _noise(self, purpose: int, plan: Drawing) -> Noise:
        """Noise of the samples of every canvas, a step at a time; those after ``plan.fresh`` mirror the first's."""

        def draw(step: int) -> Tensor:
            keys = (noise.NoiseKey(self.seed, canvas, purpose, self.tier, step) for canvas in self.keys)
            drawn = (noise.normal(key, range(plan.fresh), self.shape, self.prior.device) for key in keys)
            return torch.cat([torch.cat((n, -n))[: plan.samples] if plan.mirrored else n for n in drawn])

        return draw

    def _project(self, x_NCHW: Tensor, inset: float | None = None) -> Tensor:
        given = self.profile.inset if inset is None else inset
        return self.cells.project(x_NCHW.view(len(self.keys), -1, *self.shape), given).view_as(x_NCHW)

    def _from_cells(self, mean_BK: Tensor) -> Tensor:
        """The image whose coefficients are the cells' middles where measured, ``mean`` elsewhere."""
        z = torch.where(self.cells.kind > 0, (self.cells.low + self.cells.high) * 0.5, mean_BK).round()
        return fixed.from_grid(fixed.clamp_grid(self.basis.synthesize(z)))


def step_of(profile: ArchiveProfile, tier: int) -> float:
    """Quantizer step of a tier, in pixel units of [-1, 1]."""
    step = profile.step
    for _ in range(tier):  # products, not a power: no libm enters the bytes
        step *= profile.ratio
    return step


class Drawing(NamedTuple):
    """How posterior samples are drawn from an estimate: how many, over which noise levels, seen in how many ways."""

    samples: int
    sigmas: tuple[float, ...]
    eta: float
    mirrored: bool = False
    """Whether the second half takes the negative of the first's noise, which cancels odd errors of the mean."""
    orientations: int = 1

    @property
    def fresh(self) -> int:
        """How many samples draw noise of their own."""
        return self.samples - self.samples // 2 if self.mirrored else self.samples


def restoration(profile: ArchiveProfile, tiers: int, how: str, prior: Prior) -> Drawing:
    """Of a stream of so many tiers: ``mean``, or ``perceptual``.

    A mean of samples with all noise fresh is near the image; one sample that keeps some of its noise is a member of the
    posterior, with its detail.
    """
    p, step = profile, step_of(profile, tiers - 1)
    if how == "mean":
        levels = karras(p.restore_steps, step * p.restore_heat, step * p.restore_cold)
        orientations = min(p.restore_orientations, prior.orientations)
        return Drawing(p.restore_samples, levels, p.restore_eta, mirrored=True, orientations=orientations)
    levels = karras(p.perceptual_steps, step * p.perceptual_heat, step * p.perceptual_cold)
    return Drawing(1, levels, p.perceptual_eta)


def _ordered_mean(z_BSK: Tensor) -> Tensor:
    """Mean over samples, float64 (B, K): sums of integers."""
    total = fixed.total(z_BSK, dim=1)
    return total / torch.full_like(total, float(z_BSK.shape[1]))


def _image_mean(samples_BSCHW: Tensor) -> Tensor:
    total = fixed.total(fixed.to_grid(samples_BSCHW), dim=1)
    return fixed.from_grid((total / torch.full_like(total, float(samples_BSCHW.shape[1]))).round())
