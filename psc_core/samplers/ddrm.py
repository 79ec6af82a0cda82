"""Posterior sampling under noiseless orthonormal measurements (Kawar et al. 2022, DDRM; PSC section 3, Appendix A).

With H Ht = I the singular values are one, and a DDRM step is: denoise, put the measurements in, add noise again. The
paper's "eta_b = 0" contradicts DDRM's own convention (there eta_b = 0 would ignore y): y is enforced here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
) -> Tensor:
    """Samples of p(x | Hx = y).

    Args:
        denoise: (x_t, sigma) -> E[x | x_t].
        project: x -> the nearest x with Hx = y.
        noise: step -> fresh standard normal noise, the same whenever asked.
        sigmas: falling noise levels.
        eta: share of fresh noise (1: all the noise of a step is new; 0: none is, as in DDIM).
        start: samples to re-noise to the first level instead of starting from noise alone.
    """
    x = noise(0) * float(np.float32(sigmas[0]))
    x = x if start is None else start + x
    for step, (sigma, following) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        x0 = project(denoise(x, sigma))
        if not following:
            return x0
        kept = (x - x0) * float(np.float32(following * math.sqrt(1 - eta * eta) / sigma))
        x = x0 + kept
        if eta:
            x = x + noise(step + 1) * float(np.float32(following * eta))
    raise AssertionError("a schedule holds at least one level")
