"""Whether canvas borders show: gradients across them against those elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from psc_core.canvas import count_canvases, plan_canvases


class Gradients(NamedTuple):
    """Mean absolute differences of neighbours: across inner canvas borders, and between all others."""

    across: float
    elsewhere: float


def gradients(image_HWC: np.ndarray, limit: int) -> Gradients:
    """Of an image that is cut into several canvases with no side above ``limit`` pixels."""
    height, width = image_HWC.shape[:2]
    canvases = plan_canvases(height, width, limit)
    across, elsewhere = [], []
    for axis, edges in enumerate(({c.top for c in canvases}, {c.left for c in canvases})):
        steps = np.abs(np.diff(image_HWC.astype(np.int16), axis=axis)).mean(axis=(1 - axis, 2))
        border = np.isin(np.arange(1, len(steps) + 1), sorted(edges))
        across.append(steps[border])
        elsewhere.append(steps[~border])
    return Gradients(float(np.concatenate(across).mean()), float(np.concatenate(elsewhere).mean()))


def seam_ratio(image_HWC: np.ndarray, limit: int) -> float | None:
    """Gradient across canvas borders over that elsewhere.

    The photograph's own ratio says what to expect: near 1, but for what happens to lie on the borders. None for one
    canvas. limit: a canvas's largest side in pixels.
    """
    height, width = image_HWC.shape[:2]
    if count_canvases(height, width, limit) == 1:
        return None
    found = gradients(image_HWC, limit)
    return found.across / found.elsewhere
