"""Cutting an image into canvases: rectangles that are coded alone, so that memory is bounded by the canvas."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Canvas(NamedTuple):
    """Rows ``top:top+height`` and columns ``left:left+width`` of the image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def shrunk(self, scale: int) -> Canvas:
        """The same place in a model space of 1/scale of the side; inner borders must be multiples of ``scale``."""
        return Canvas(self.top // scale, self.left // scale, -(-self.height // scale), -(-self.width // scale))


def plan_canvases(height: int, width: int, limit: int) -> list[Canvas]:
    """Cut ``height x width`` into the fewest, nearly equal rectangles with no side above ``limit``, row by row."""
    return [
        Canvas(top, left, bottom - top, right - left)
        for top, bottom in _cut(height, limit)
        for left, right in _cut(width, limit)
    ]


def count_canvases(height: int, width: int, limit: int) -> int:
    """How many canvases :func:`plan_canvases` gives, without making them."""
    return -(-height // limit) * -(-width // limit)


def pad_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """Reflect ``image`` (H, W, C) at its lower and right border up to the next multiples of ``multiple``."""
    height, width = image.shape[:2]
    rows = reflected(height, -(-height // multiple) * multiple)
    columns = reflected(width, -(-width // multiple) * multiple)
    return image[rows][:, columns]


def _cut(length: int, limit: int) -> list[tuple[int, int]]:
    # Inner borders fall on multiples of 32 (or 16) where the limit is one, so that windows
    # up to that size need padding in the last canvas alone.
    count = -(-length // limit)
    unit = next((u for u in (32, 16) if limit % u == 0), 1)
    size = -(-length // (count * unit)) * unit
    edges = [min(i * size, length) for i in range(count)] + [length]
    return list(pairwise(edges))


def reflected(length: int, padded: int) -> np.ndarray:
    """Indices 0..padded-1 folded back into 0..length-1 (edge pixel not repeated, except for length 1)."""
    if length == 1:
        return np.zeros(padded, dtype=np.intp)
    period = 2 * (length - 1)
    folded = np.arange(padded) % period
    return np.where(folded < length, folded, period - folded)
