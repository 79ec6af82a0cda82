"""Whether canvas borders show: gradients across them against those elsewhere."""

from __future__ import annotations

import numpy as np

from psc_core.canvas import plan_canvases


def seam_ratio(image_HWC: np.ndarray, limit: int) -> float | None:
    """Mean absolute difference of neighbours across inner canvas borders over that of all others.

    The photograph's own ratio says what to expect: near 1, but for what happens to lie on the borders. None for one
    canvas. limit: a canvas's largest side in pixels.
    """
    height, width = image_HWC.shape[:2]
    canvases = plan_canvases(height, width, limit)
    across, elsewhere = [], []
    for axis, edges in enumerate(({c.top for c in canvases}, {c.left for c in canvases})):
        steps = np.abs(np.diff(image_HWC.astype(np.int16), axis=axis)).mean(axis=(1 - axis, 2))
        border = np.isin(np.arange(1, len(steps) + 1), sorted(edges))
        across.append(steps[border])
        elsewhere.append(steps[~border])
    found = np.concatenate(across)
    return float(found.mean() / np.concatenate(elsewhere).mean()) if found.size else None
