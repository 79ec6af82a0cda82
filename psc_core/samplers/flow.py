"""The probability-flow ODE dx/ds = (x - D(x, s)) / s (Song et al. 2021) by Heun steps (Karras et al. 2022, Alg. 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from psc_core.samplers.ddrm import Denoise


def probability_flow(denoise: Denoise, x_NCHW: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Carry x + s n from the first of falling noise levels to zero, two calls a step, one for the last."""
    x = x_NCHW
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        x0 = denoise(x, sigma)
        if not following:
            return x0
        slope = (x - x0) * _f32(1.0 / sigma)
        ahead = x + slope * _f32(following - sigma)
        corrected = (ahead - denoise(ahead, following)) * _f32(1.0 / following)
        x = x + (slope + corrected) * _f32((following - sigma) / 2)
    raise AssertionError("a schedule holds at least one level")


def _f32(value: float) -> float:
    return float(np.float32(value))
