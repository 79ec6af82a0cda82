"""Real photographs from scikit-image's own package, reduced."""

from __future__ import annotations

from functools import cache

import numpy as np
import skimage.data
from PIL import Image


@cache
def photograph(name: str = "astronaut", width: int = 32, height: int = 32) -> np.ndarray:
    """uint8 (height, width) or (height, width, 3)."""
    image = Image.fromarray(getattr(skimage.data, name)())
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.reshape(a.shape)) ** 2)
    return float(10 * np.log10(255**2 / error))
