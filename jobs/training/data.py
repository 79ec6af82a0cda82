"""Photographs for training: a tar or folder held in memory, batches that depend on (seed, step) alone."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
VALIDATION_SHARE = 0.02
# Photographs are seen at their own scale, as larger scenes and, rarely, as soft enlargements.
SCALES = ((0.5, 1.0, 1.0), (0.4, 1.0, 2.2), (0.1, 0.75, 1.0))


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Decoded photographs, uint8 (H, W, 3), in the order of their names."""

    train: list[np.ndarray]
    validation: list[np.ndarray]


def load_photographs(path: str | Path, *, min_side: int) -> Photographs:
    """Read every photograph of a tar or folder whose short side is at least `min_side` pixels.

    A photograph is held out when the hash of its name says so: the split survives additions to the data. The
    held-out ones come in the order of that hash, so that a few of them are a mixture. Raises ValueError if
    nothing usable is found.
    """
    files = list(read_photographs(path, min_side=min_side))
    train = [pixels for name, pixels in files if _hash(name) >= VALIDATION_SHARE]
    held_out = sorted((_hash(name), i) for i, (name, _) in enumerate(files) if _hash(name) < VALIDATION_SHARE)
    if not train or not held_out:
        raise ValueError(
            f"{path}: {len(train)} training and {len(held_out)} held-out photographs of at least "
            f"{min_side} px; both are needed: give more photographs"
        )
    return Photographs(train=train, validation=[files[i][1] for _, i in held_out])


def read_photographs(path: str | Path, *, min_side: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 (H, W, 3)) of every photograph of a tar or folder, by name; smaller ones are left out."""
    for name, data in sorted(_files(Path(path))):
        with Image.open(io.BytesIO(data)) as image:
            if min(image.size) >= min_side:
                yield name, np.asarray(image.convert("RGB"))


def batch(photographs: list[np.ndarray], *, size: int, crop: int, seed: int, step: int) -> np.ndarray:
    """The batch of one step: float32 (size, 3, crop, crop) in [-1, 1], a pure function of its arguments.

    Photographs come in epochs, each a permutation of all of them, so that none is favoured.
    """
    rng = np.random.default_rng((seed, step))
    indices = _epoch_indices(len(photographs), size, seed, step)
    crops = [_augmented_crop(photographs[i], crop, rng) for i in indices]
    return to_signal(np.stack(crops))


def centre_crops(photographs: list[np.ndarray], *, crop: int, count: int) -> np.ndarray:
    """Centre crops of the first `count` photographs: float32 (N, 3, crop, crop) in [-1, 1]."""
    crops = []
    for photo in photographs[:count]:
        top, left = (photo.shape[0] - crop) // 2, (photo.shape[1] - crop) // 2
        crops.append(photo[top : top + crop, left : left + crop])
    return to_signal(np.stack(crops))


def random_windows(photographs: list[np.ndarray], *, crop: int, count: int, seed: int) -> np.ndarray:
    """`count` windows, each of a photograph in turn, at random places: float32 (N, 3, crop, crop)."""
    rng = np.random.default_rng(seed)
    windows = []
    for index in range(count):
        photo = photographs[index % len(photographs)]
        top, left = (int(rng.integers(side - crop + 1)) for side in photo.shape[:2])
        windows.append(photo[top : top + crop, left : left + crop])
    return to_signal(np.stack(windows))


def to_signal(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W) in [-1, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1.0


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in path.rglob("*"):
            if file.suffix.lower() in SUFFIXES:
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in archive:
            handle = archive.extractfile(member) if Path(member.name).suffix.lower() in SUFFIXES else None
            if handle is not None:
                yield member.name, handle.read()


def _hash(name: str) -> float:
    """Uniform in [0, 1)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


def _epoch_indices(count: int, size: int, seed: int, step: int) -> list[int]:
    positions = range(step * size, (step + 1) * size)
    orders = {
        epoch: np.random.default_rng((seed, 1, epoch)).permutation(count) for epoch in {p // count for p in positions}
    }
    return [int(orders[p // count][p % count]) for p in positions]


def _augmented_crop(photo: np.ndarray, crop: int, rng: np.random.Generator) -> np.ndarray:
    kind = rng.choice(len(SCALES), p=[share for share, _, _ in SCALES])
    _, low, high = SCALES[kind]
    height, width = photo.shape[:2]
    side = min(round(crop * float(np.exp(rng.uniform(np.log(low), np.log(high))))), height, width)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    window = photo[top : top + side, left : left + side]
    if side != crop:
        window = np.asarray(Image.fromarray(window).resize((crop, crop), Image.Resampling.BICUBIC))
    return window[:, ::-1] if rng.random() < 0.5 else window
