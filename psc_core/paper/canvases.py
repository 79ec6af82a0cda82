"""PSC as published (Elata, Michaeli, Elad; Algorithm 2): an AdaSense step a stage, float8 measurements, dense rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from psc_core.coding import float8
from psc_core.exact import fixed, noise
from psc_core.paper.measurements import DenseMeasurements, from_value, measure
from psc_core.paper.sensing import adasense_rows
from psc_core.priors.base import Prior
from psc_core.profiles import PaperProfile
from psc_core.samplers.ddpm import projected_ddpm
from psc_core.samplers.ddrm import ddrm
from psc_core.samplers.pigdm import pigdm
from psc_core.samplers.schedule import karras
from psc_core.sides import Side
from psc_core.state import state_hash

_SENSING, _RESTORING, _GUIDING = range(3)
"""Purposes of noise: each has streams of its own."""


class PublishedCanvases:
    """A batch of canvases of one shape, coded in lockstep; each one's bytes are as if it were alone."""

    def __init__(
        self, prior: Prior, profile: PaperProfile, shape: tuple[int, int], keys: Sequence[int], seed: int
    ) -> None:
        self.prior, self.profile, self.seed = prior, profile, seed
        self.keys = list(keys)
        self.shape = (prior.channels, *shape)
        self.dimension = int(np.prod(self.shape))
        self.known = DenseMeasurements(len(self.keys), self.dimension, prior.device)
        self.laws = [float8.AdaptiveLaw() for _ in self.keys]
        self.scale = float8.scale_for(self.dimension)
        self.stages_done = 0
        self.estimate = torch.zeros(len(self.keys), *self.shape, dtype=torch.float32, device=prior.device)

    @staticmethod
    def multiple(profile: PaperProfile) -> int:
        """No padding beyond the network's own."""
        return 1

    def run_group(self, side: Side) -> None:
        """One chunk: the stages of a tier, on either side."""
        for _ in range(self.profile.stages):
            self.stage(side)

    def stage(self, side: Side) -> None:
        """Sample the posterior, take the rows of most disagreement, exchange what they measure."""
        samples = self._samples(self.profile.samples, _SENSING, self.stages_done)
        rows = adasense_rows(samples.flatten(2), self.known.rows, self.profile.rows)

        def wanted(truth_BCHW: Tensor) -> list[np.ndarray]:
            values = from_value(measure(rows, fixed.to_grid(truth_BCHW.flatten(1)[:, None])))
            return list(float8.encode(values[:, 0].cpu().numpy() * self.scale))

        codes = side.exchange(wanted, [law.weights() for law in self.laws], [rows.shape[1]] * len(self.keys))
        for law, some in zip(self.laws, codes, strict=True):
            law.learn(some)
        values = float8.decode(np.stack(codes)) / self.scale
        self.known.append(rows, torch.from_numpy(values).to(rows.device))
        self.stages_done += 1
        self.estimate = self._project(_mean(samples)[:, None])[:, 0]

    def state_hashes(self) -> list[int]:
        """16 bits of the rows and measurements of the last stage, one a canvas."""
        last = -self.profile.rows
        parts = zip(self.known.rows[:, last:].cpu().numpy(), self.known.values[:, last:].cpu().numpy(), strict=True)
        return [state_hash(rows, values) for rows, values in parts]

    def restore(self, how: str) -> Tensor:
        """``mean`` of samples (low distortion, exact), or one ``perceptual`` ΠGDM sample (float): (B, C, H, W)."""
        if how == "mean":
            return _mean(self._samples(self.profile.restore_samples, _RESTORING, 0))
        return self._guided()

    def _samples(self, count: int, purpose: int, stage: int) -> Tensor:
        """Posterior samples given the measurements so far: (B, count, C, H, W)."""
        sigmas = karras(self.profile.steps, self.prior.sigma_max, self.prior.sigma_min)
        draw = self._noise(count, purpose, stage)
        if self.profile.sampler == "ddpm":
            flat = projected_ddpm(self.prior.denoise, self._project_flat, draw, sigmas)
        else:
            flat = ddrm(self.prior.denoise, self._project_flat, draw, sigmas, self.profile.eta)
        return flat.view(len(self.keys), count, *self.shape)

    def _guided(self) -> Tensor:
        sigmas = karras(self.profile.perceptual_steps, self.prior.sigma_max, self.prior.sigma_min)
        residual = self.known.back_projected_residual
        return pigdm(
            self.prior.denoise_differentiably,
            lambda x: residual(x.flatten(1)[:, None]).view_as(x),
            self._noise(1, _GUIDING, 0),
            sigmas,
            unguided_tail=getattr(self.profile, "unguided_tail", 0),
        )

    def _noise(self, count: int, purpose: int, stage: int) -> Callable[[int], Tensor]:
        def draw(step: int) -> Tensor:
            keys = (noise.NoiseKey(self.seed, canvas, purpose, stage, step) for canvas in self.keys)
            return torch.cat([noise.normal(key, range(count), self.shape, self.prior.device) for key in keys])

        return draw

    def _project_flat(self, x_NCHW: Tensor) -> Tensor:
        return self._project(x_NCHW.view(len(self.keys), -1, *self.shape)).view_as(x_NCHW)

    def _project(self, x_BSCHW: Tensor) -> Tensor:
        return self.known.project(x_BSCHW.flatten(2)).view_as(x_BSCHW)


def _mean(samples_BSCHW: Tensor) -> Tensor:
    """Mean over samples, summed exactly."""
    grid = fixed.to_grid(samples_BSCHW)
    count = torch.full((), samples_BSCHW.shape[1], dtype=torch.float64, device=grid.device)
    return fixed.from_grid(fixed.total(grid, dim=1) / count)
