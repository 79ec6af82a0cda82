"""Features of random crops, and distances between sets: FID (Heusel et al. 2017), KID (Binkowski et al. 2018).

The paper's measurement: 50 random 128x128 crops an image, of all originals against all decoded pictures. A picture and
its original are cropped at the same places, which the original decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from jobs.bench.photographs import digest
from jobs.bench.scripted import load

CROPS, SIDE = 50, 128
_BATCH = 10


class Features:
    """A feature network and the features it gave, kept on disk by picture: a stopped run goes on with them."""

    def __init__(self, network: str, folder: Path, *, crops: int | None = None, side: int | None = None) -> None:
        """network: see :func:`jobs.bench.scripted.load`; folder: where the features are kept."""
        self.module, self.sha256 = load(network, "--inception")
        self.folder, self.crops, self.side = folder, crops or CROPS, side or SIDE
        self.about = (
            f"{Path(network).name} sha256 {self.sha256[:16]}, {self.crops} crops of {self.side}x{self.side} an image"
        )

    def keep(self, original: np.ndarray, picture: np.ndarray) -> str | None:
        """The name of a picture's features, made now if they are not there; None of an image below the crops' size."""
        if min(original.shape[:2]) < self.side:
            return None
        said = f"{self.sha256} {self.crops} {self.side} {digest(original)} {digest(picture)}"
        name = hashlib.sha256(said.encode()).hexdigest()[:24]
        if not self.path(name).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(self.path(name), self._of(original, picture))
        return name

    def read(self, names: Sequence[str]) -> np.ndarray:
        """(crops x images, D) float64."""
        return np.concatenate([np.load(self.path(name)) for name in names]).astype(np.float64)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _of(self, original: np.ndarray, picture: np.ndarray) -> np.ndarray:
        import torch

        rng = np.random.default_rng(int(digest(original), 16))
        height, width = original.shape[:2]
        places = zip(
            rng.integers(0, height - self.side + 1, self.crops),
            rng.integers(0, width - self.side + 1, self.crops),
            strict=True,
        )
        colour = np.broadcast_to(picture, (height, width, 3))
        crops = np.stack([colour[t : t + self.side, x : x + self.side] for t, x in places])
        tensor = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            found = torch.cat([self._call(part) for part in tensor.split(_BATCH)])
        return found.float().numpy()

    def _call(self, crops_uint8: Any) -> Any:
        """Features of uint8 crops. NVIDIA's copy of the FID network takes a word for features in place of logits."""
        words = {"return_features": True} if "return_features" in str(self.module.forward.schema) else {}
        try:
            out = self.module(crops_uint8, **words)
        except RuntimeError as error:
            said = str(error).strip().splitlines()[-1]
            raise click.UsageError(f"--inception: the module takes no uint8 crops (N, 3, H, W): {said}") from None
        if out.ndim != 2 or len(out) != len(crops_uint8):
            raise click.UsageError(f"--inception: the module gives {tuple(out.shape)}; expected (N, features)")
        return out


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 sqrt(S_a S_b)) of two sets of features (N, D)."""
    shift = a.mean(0) - b.mean(0)
    one, two = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    roots = np.sqrt(np.linalg.eigvals(one @ two).astype(complex)).real
    return float(shift @ shift + np.trace(one) + np.trace(two) - 2 * roots.sum())


def kernel_distance(a: np.ndarray, b: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> float:
    """Mean over random subsets of the unbiased squared MMD under the kernel (x.y / D + 1)^3."""
    rng, size = np.random.default_rng(seed), min(size, len(a), len(b))
    if size < 2:
        return float("nan")
    found = []
    for _ in range(subsets):
        x, y = (s[rng.choice(len(s), size, replace=False)] for s in (a, b))
        xx, yy, xy = (_kernel(*pair) for pair in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        found.append(within - 2 * xy.mean())
    return float(np.mean(found))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
