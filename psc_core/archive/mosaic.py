"""Restoring an image of several canvases in one piece, so that no border shows.

Canvases are measured alone, but their posterior is sampled together: the network sees each canvas with a margin of
its neighbours, and every canvas is then put into its own cells. One sample is held at a time, so memory grows with the
image by some 150 bytes a pixel, and not with the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from psc_core.archive.canvases import RESTORING, Drawing, Piece, restoration
from psc_core.archive.flips import flipped
from psc_core.canvas import Canvas, reflected
from psc_core.exact import fixed
from psc_core.exact.noise import NoiseKey, normal
from psc_core.priors.base import Prior
from psc_core.profiles import ArchiveProfile
from psc_core.samplers.ddrm import descend, first, levels

MARGIN = 32
"""Pixels of the neighbours that the network sees around a canvas."""
LATENT_MARGIN = 8
"""Latents of the neighbours, where a canvas is of latents: 64 pixels."""


class Mosaic:
    """All canvases of one image; one tensor (C, H, W) holds them side by side."""

    def __init__(self, prior: Prior, profile: ArchiveProfile, pieces: Sequence[Piece], seed: int) -> None:
        self.prior, self.profile, self.seed = prior, profile, seed
        self.canvases = [piece.canvas.shrunk(prior.scale) for piece in pieces]
        self.height = max(c.top + c.height for c in self.canvases)
        self.width = max(c.left + c.width for c in self.canvases)
        self.margin = MARGIN if prior.scale == 1 else LATENT_MARGIN
        self.tiers = min(p.tiers for p in pieces)
        self.cells = [piece.cells for piece in pieces]
        self.padded = [piece.estimate.shape for piece in pieces]
        self.share = float(np.float32(1 / (2 * self.tiers)))
        self.borders = [self._border(canvas) for canvas in self.canvases]
        self.start = self._blank(torch.float32)
        for number, (canvas, piece) in enumerate(zip(self.canvases, pieces, strict=True)):
            estimate = piece.estimate[:, : canvas.height, : canvas.width]
            _view(self.start, canvas).copy_(self._project(number, estimate, profile.inset))

    def restore(self, how: str) -> Tensor:
        """The ``mean`` of posterior samples, or one ``perceptual`` sample, in model space: (C, H, W)."""
        plan = restoration(self.profile, self.tiers, how, self.prior)
        total = self._blank(torch.int32)
        for sample in range(plan.samples):
            x = self._sample(plan, sample)
            for canvas in self.canvases:
                _view(total, canvas).add_(fixed.to_grid(_view(x, canvas)).to(torch.int32))
        for canvas in self.canvases:
            part = _view(total, canvas).double()
            _view(x, canvas).copy_(fixed.from_grid((part / torch.full_like(part, float(plan.samples))).round()))
        return x

    def _sample(self, plan: Drawing, sample: int) -> Tensor:
        """:func:`.samplers.ddrm.ddrm`, all canvases a step."""
        x, after = self._blank(torch.float32), self._blank(torch.float32)
        for number, canvas in enumerate(self.canvases):
            drawn = self._noise(plan, sample, number, 0)
            _view(x, canvas).copy_(first(drawn, plan.sigmas[0], _view(self.start, canvas)))
        for step, (sigma, following) in enumerate(levels(plan.sigmas)):
            for number, canvas in enumerate(self.canvases):
                inset = self.profile.inset if following else 0.0
                x0 = self._project(number, self._denoise(x, canvas, sigma, sample % plan.orientations), inset)
                fresh = partial(self._noise, plan, sample, number, step + 1)
                _view(after, canvas).copy_(descend(_view(x, canvas), x0, sigma, following, plan.eta, fresh))
            x, after = after, x
        return x

    def _denoise(self, x_CHW: Tensor, canvas: Canvas, sigma: float, orientation: int) -> Tensor:
        """One canvas denoised, its neighbours' margins seen, the whole flipped."""
        top, left = max(0, canvas.top - self.margin), max(0, canvas.left - self.margin)
        bottom = min(self.height, canvas.top + canvas.height + self.margin)
        right = min(self.width, canvas.left + canvas.width + self.margin)
        unit = self.prior.multiple // self.prior.scale
        rows, columns = (-(-side // unit) * unit for side in (bottom - top, right - left))
        seen = flipped(_padded(x_CHW[:, top:bottom, left:right], rows, columns), orientation)
        denoised = flipped(self.prior.denoise(seen[None], sigma)[0], orientation)
        own = denoised[:, canvas.top - top :, canvas.left - left :]
        return own[:, : canvas.height, : canvas.width]

    def _project(self, number: int, x_CHW: Tensor, inset: float) -> Tensor:
        """One canvas put into its cells; pixels at an inner border stay behind by a share, so that none shows.

        Cells know one side of a border alone, and move it against the other: the more, the fewer tiers they have.
        """
        x = self.cells[number].project(_padded(x_CHW, *self.padded[number][1:])[None, None], inset)
        own = x[0, 0, :, : x_CHW.shape[1], : x_CHW.shape[2]]
        return torch.where(self.borders[number], own + (x_CHW - own) * self.share, own)

    def _border(self, canvas: Canvas) -> Tensor:
        """Which pixels (h, w) of a canvas are beside another canvas."""
        at = torch.zeros(canvas.height, canvas.width, dtype=torch.bool, device=self.prior.device)
        at[:1] = canvas.top > 0
        at[-1:] |= canvas.top + canvas.height < self.height
        at[:, :1] |= canvas.left > 0
        at[:, -1:] |= canvas.left + canvas.width < self.width
        return at

    def _noise(self, plan: Drawing, sample: int, number: int, step: int) -> Tensor:
        """The noise that a canvas alone would draw."""
        which, sign = sample % plan.fresh, 1.0 if sample < plan.fresh else -1.0
        key, canvas = NoiseKey(self.seed, number, RESTORING, self.tiers, step), self.canvases[number]
        drawn = normal(key, range(which, which + 1), self.padded[number], self.prior.device)[0] * sign
        return drawn[:, : canvas.height, : canvas.width]

    def _blank(self, kind: torch.dtype) -> Tensor:
        return torch.zeros(self.padded[0][0], self.height, self.width, dtype=kind, device=self.prior.device)


def _view(x_CHW: Tensor, canvas: Canvas) -> Tensor:
    return x_CHW[:, canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width]


def _padded(x_CHW: Tensor, rows: int, columns: int) -> Tensor:
    """Reflected at the lower and right border up to that size, as :func:`.canvas.pad_to_multiple` does."""
    height, width = x_CHW.shape[1:]
    if (height, width) == (rows, columns):
        return x_CHW.contiguous()
    down, across = (torch.from_numpy(reflected(*pair)).to(x_CHW.device) for pair in ((height, rows), (width, columns)))
    return x_CHW.index_select(1, down).index_select(2, across)
