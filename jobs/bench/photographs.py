"""The benchmark's images: any source that `psc compress` takes, thinned out, reduced or cropped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from pipeline.errors import InputError
from pipeline.inputs.conditions import conditioned
from pipeline.inputs.images import Rejected, quiet_pillow, read_image
from pipeline.sources import Item, Source


@dataclass(frozen=True)
class Photographs:
    """Which images of a source, and at what size. Loading is repeatable and holds one image at a time.

    size: longer side in pixels after reduction; crop: side of the centre square cut out after that; captions, labels:
    what conditional priors are given, see :mod:`pipeline.inputs.conditions`.
    """

    source: str
    size: int | None = None
    crop: int | None = None
    limit: int | None = None
    every: int = 1
    captions: str | None = None
    labels: str | None = None

    def items(self) -> list[Item]:
        """Every ``every``-th image from the first, at most ``limit``. Raises :class:`click.UsageError` if none."""
        found = list(conditioned(Source(self.source), self.captions, self.labels))[:: self.every][: self.limit]
        if not found:
            raise click.UsageError(f"--images {self.source}: no photographs in it")
        return found

    def load(self, item: Item) -> np.ndarray:
        """uint8 (H, W, 1) or (H, W, 3). Raises :class:`~pipeline.errors.InputError`."""
        quiet_pillow()
        try:
            image, _ = read_image(Source(self.source).read(item), size=self.size)
        except Rejected as error:
            raise _named(item, error) from None
        return centre(image, self.crop) if self.crop else image

    def text(self) -> str:
        """How they were made, for a title."""
        reduced = f"reduced to {self.size} px" if self.size else ""
        cropped = f"{self.crop}x{self.crop} centre" if self.crop else ""
        return ", ".join(part for part in (reduced, cropped) if part) or "whole"


def centre(image: np.ndarray, side: int) -> np.ndarray:
    """The centre square of an image, or as much of it as there is."""
    height, width = image.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def digest(image: np.ndarray) -> str:
    """64 bits, in hex, of a sha256 over shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:16]


def facts(images: Sequence[tuple[str, np.ndarray]]) -> dict[str, dict[str, object]]:
    """What the record keeps of each image."""
    return {
        name: {"width": a.shape[1], "height": a.shape[0], "channels": a.shape[2], "digest": digest(a)}
        for name, a in images
    }


def _named(item: Item, error: Rejected) -> Exception:
    inner = error.error
    kind = type(inner) if isinstance(inner, InputError) else InputError
    return kind(f"{item.id}: {inner}")
