"""Posterior sampling under noiseless orthonormal measurements (Kawar et al. 2022, DDRM; PSC section 3, Appendix A).

With H Ht = I the singular values are one, and a DDRM step is: denoise, put the measurements in, add noise again. The
paper's "eta_b = 0" contradicts DDRM's own convention (there eta_b = 0 would ignore y): y is enforced here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Project = Callable[[Tensor], Tensor]
Noise = Callable[[int], Tensor]


def ddrm(
    denoise: Denoise,
    project: Project,
    noise: Noise,
    sigmas: Sequence[float],
    eta: float,
    start: Tensor | None = None,
    finish: Project | None = None,
) -> Tensor:
    """Samples of p(x | Hx = y).

    Args:
        denoise: (x_t, sigma) -> E[x | x_t].
        project: x -> the nearest x with Hx = y.
        noise: step -> fresh standard normal noise, the same whenever asked.
        sigmas: falling noise levels.
        eta: share of fresh noise (1: all the noise of a step is new; 0: none is, as in DDIM).
        start: samples to re-noise to the first level instead of starting from noise alone.
        finish: what the last estimate is put through instead of ``project``.
    """
    x = first(noise(0), sigmas[0], start)
    for step, (sigma, following) in enumerate(levels(sigmas)):
        x0 = (project if following else finish or project)(denoise(x, sigma))
        x = descend(x, x0, sigma, following, eta, partial(noise, step + 1))
    return x


def levels(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """Every noise level with the one that follows it; the last is followed by 0."""
    return list(zip(sigmas, [*sigmas[1:], 0.0], strict=True))


def first(noise: Tensor, sigma: float, start: Tensor | None) -> Tensor:
    """What the first step sees."""
    x = noise * float(np.float32(sigma))
    return x if start is None else start + x


def descend(x: Tensor, x0: Tensor, sigma: float, following: float, eta: float, fresh: Callable[[], Tensor]) -> Tensor:
    """From ``x`` at level sigma, of which ``x0`` is the estimate, to the level that follows."""
    if not following:
        return x0
    kept = (x - x0) * float(np.float32(following * math.sqrt(1 - eta * eta) / sigma))
    x = x0 + kept
    return x + fresh() * float(np.float32(following * eta)) if eta else x
