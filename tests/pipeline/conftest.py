from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_images(folder: Path, count: int, *, size: int = 24, seed: int = 0) -> list[Path]:
    """``count`` small PNG files with random pixels, alternately colour and grey."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        shape = (size + number % 5, size) if number % 2 else (size, size + number % 3, 3)
        paths.append(folder / f"img{number:04d}.png")
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(paths[-1])
    return paths
