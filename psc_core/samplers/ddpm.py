"""Ancestral DDPM steps with projection onto the measurements (PSC Appendix A, the sampler of Latent-PSC)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from psc_core.samplers.ddrm import Denoise, Noise, Project


def projected_ddpm(
    denoise: Denoise,
    project: Project,
    noise: Noise,
    sigmas: Sequence[float],
    start: Tensor | None = None,
    *,
    heat: bool = True,
) -> Tensor:
    """Samples of p(x | Hx = y): q(x_{t-1} | x_t, x0) (Ho et al. 2020, eq. 6, variance-exploding) with x0 projected.

    Arguments as for :func:`psc_core.samplers.ddrm.ddrm`; heat: False if ``start`` has the first level's noise already.
    """
    if start is not None and not heat:
        x = start
    else:
        x = noise(0) * float(np.float32(sigmas[0]))
        x = x if start is None else start + x
    for step, (sigma, following) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        x0 = project(denoise(x, sigma))
        if not following:
            return x0
        ratio = following * following / (sigma * sigma)
        kept = (x - x0) * float(np.float32(ratio))
        x = x0 + kept
        x = x + noise(step + 1) * float(np.float32(following * math.sqrt(1 - ratio)))
    raise AssertionError("a schedule holds at least one level")
