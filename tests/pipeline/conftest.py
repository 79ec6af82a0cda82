from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Ray's token auth is on by default and must be the same in every process of a test.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session")
def ray_session():
    """One small local cluster for the whole run: starting one takes seconds."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 1024 * 1024,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


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
