"""Restoring an image of several canvases in one piece, so that no border shows.

Canvases are measured alone, but their posterior is sampled together: the network sees each canvas with a margin of
its neighbours, and every canvas is then put into its own cells. One sample is held at a time, so memory grows with the
image by some 200 bytes a pixel, and not with the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from psc_core.canvas import Canvas, reflected
from psc_core.exact import fixed
from psc_core.exact.noise import NoiseKey, normal
from psc_core.priors.base import Prior
from psc_core.profiles import ArchiveProfile
from psc_core.samplers.ddrm import Noise, ddrm
from psc_core.structured import RESTORING, Piece, Restoration, restoration

MARGIN = 32
"""Pixels of the neighbours that the network sees around a canvas."""
LATENT_MARGIN = 8
"""As many latents, 64 pixels."""


class Mosaic:
    """All canvases of one image; one tensor (1, C, H, W) holds them side by side."""

    def __init__(self, prior: Prior, profile: ArchiveProfile, pieces: Sequence[Piece], seed: int) -> None:
        self.prior, self.profile, self.pieces, self.seed = prior, profile, list(pieces), seed
        self.canvases = [piece.canvas.shrunk(prior.scale) for piece in pieces]
        self.height = max(c.top + c.height for c in self.canvases)
        self.width = max(c.left + c.width for c in self.canvases)
        self.margin = MARGIN if prior.scale == 1 else LATENT_MARGIN
        self.tiers = min(p.tiers for p in pieces)

    def restore(self, how: str) -> Tensor:
        """The ``mean`` of posterior samples, or one ``perceptual`` sample, in model space: (C, H, W)."""
        plan = restoration(self.profile, self.tiers, how)
        start = self._project(self._compose([piece.estimate for piece in self.pieces]))
        total = torch.zeros_like(start, dtype=torch.float64)
        for sample in range(plan.samples):
            x = ddrm(self._denoise, self._project, self._noise(plan, sample), plan.sigmas, plan.eta, start)
            total = total + fixed.to_grid(x)
        mean = (total / torch.full_like(total, float(plan.samples))).round()
        return fixed.from_grid(mean)[0]

    def _denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        out = torch.empty_like(x_NCHW)
        for canvas in self.canvases:
            top, left = max(0, canvas.top - self.margin), max(0, canvas.left - self.margin)
            bottom = min(self.height, canvas.top + canvas.height + self.margin)
            right = min(self.width, canvas.left + canvas.width + self.margin)
            seen = _padded(x_NCHW[:, :, top:bottom, left:right], self.prior.multiple // self.prior.scale)
            denoised = self.prior.denoise(seen, sigma)[:, :, canvas.top - top :, canvas.left - left :]
            _view(out, canvas).copy_(denoised[:, :, : canvas.height, : canvas.width])
        return out

    def _project(self, x_NCHW: Tensor) -> Tensor:
        parts = []
        for canvas, piece in zip(self.canvases, self.pieces, strict=True):
            x = _padded(_view(x_NCHW, canvas), self.profile.window)
            parts.append(piece.cells.project(x[None], self.profile.inset)[0, 0])
        return self._compose(parts)

    def _noise(self, plan: Restoration, sample: int) -> Noise:
        """The noise that a canvas alone would draw, side by side."""
        which, sign = sample % plan.fresh, 1.0 if sample < plan.fresh else -1.0

        def draw(step: int) -> Tensor:
            parts = []
            for canvas, piece in enumerate(self.pieces):
                key = NoiseKey(self.seed, canvas, RESTORING, self.tiers, step)
                parts.append(normal(key, range(which, which + 1), piece.estimate.shape, self.prior.device)[0] * sign)
            return self._compose(parts)

        return draw

    def _compose(self, parts: Sequence[Tensor]) -> Tensor:
        """Canvases (C, h, w) side by side, their padding cut off: (1, C, H, W)."""
        out = torch.empty(1, len(parts[0]), self.height, self.width, device=parts[0].device)
        for canvas, part in zip(self.canvases, parts, strict=True):
            _view(out, canvas).copy_(part[:, : canvas.height, : canvas.width])
        return out


def _view(x_NCHW: Tensor, canvas: Canvas) -> Tensor:
    return x_NCHW[:, :, canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width]


def _padded(x_NCHW: Tensor, multiple: int) -> Tensor:
    """Reflected at the lower and right border up to the next multiples, as :func:`.canvas.pad_to_multiple` does."""
    height, width = x_NCHW.shape[2:]
    if not height % multiple and not width % multiple:
        return x_NCHW.contiguous()
    rows, columns = (torch.from_numpy(reflected(side, -(-side // multiple) * multiple)) for side in (height, width))
    return x_NCHW.index_select(2, rows.to(x_NCHW.device)).index_select(3, columns.to(x_NCHW.device))
