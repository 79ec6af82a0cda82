"""Samples seen by the network in several orientations, so that its errors differ and their mean has less of them.

The self-ensemble of Timofte et al. (2016), for the calls of one: each sample has an orientation of its own.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from psc_core.samplers.ddrm import Denoise


def flipped(x: Tensor, orientation: int) -> Tensor:
    """``x`` (..., H, W): bit 0 of ``orientation`` swaps left and right, bit 1 top and bottom. Its own inverse."""
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if orientation & bit]
    return x.flip(axes) if axes else x


def seen_flipped(denoise: Denoise, count: int, orientations: int) -> Denoise:
    """``denoise`` that sees sample i of every ``count`` (N: canvases x count) in orientation i mod ``orientations``."""
    return denoise if orientations == 1 else partial(_denoise, denoise, count, orientations)


def _denoise(denoise: Denoise, count: int, orientations: int, x_NCHW: Tensor, sigma: float) -> Tensor:
    turn = partial(_each, count=count, orientations=orientations)
    return turn(denoise(turn(x_NCHW), sigma))


def _each(x_NCHW: Tensor, count: int, orientations: int) -> Tensor:
    out = torch.empty_like(x_NCHW)
    for sample in range(count):
        out[sample::count] = flipped(x_NCHW[sample::count], sample % orientations)
    return out
