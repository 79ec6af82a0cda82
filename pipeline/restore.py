"""Decompress: streams of a dataset, or one ``.psc`` file, back to picture files."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

import psc_core
from pipeline.codec import Codec, stream_under
from pipeline.dataset import Dataset
from pipeline.errors import BadRequest, NotADataset
from pipeline.plan import PLAN
from pipeline.request import Request
from pipeline.storage import Folder
from psc_core.errors import InvalidPrior, TierOutOfRange, WrongArithmetic, WrongPrior

FORMATS: dict[str, dict[str, Any]] = {
    "png": {},
    "webp": {"lossless": True},
    "jpg": {"quality": 95, "subsampling": 0},
}
RESTORE = ("mean", "perceptual")
DEFAULT_BATCH = 8
_LONGEST_NAME = 200


@dataclass
class Restored:
    """Outcome: files written, and the ids that did not decode with the reason of each."""

    out: str
    written: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0

    def as_dict(self) -> dict[str, Any]:
        figures = {"out": self.out, "written": self.written, "seconds": round(self.seconds, 3)}
        return figures | {"failed": self.failed}


def decompress(
    source: str,
    out: str,
    *,
    tier: int | None = None,
    bpp: float | None = None,
    restore: str = "mean",
    ids: Collection[str] | None = None,
    format: str = "png",
    prior: str | None = None,
    batch: int = DEFAULT_BATCH,
    codec: Codec | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Restored:
    """Decode a dataset (or those of its images in ``ids``) into files ``out``/ID.png, or one ``.psc`` file.

    tier: decode tiers 0..tier, of the images that have them; bpp: decode each image from at most that many
    bits a pixel; prior: where the prior is, if not under the name that the streams give.

    Raises:
        Refused, TierOutOfRange, UnknownIds, PriorNotFound, WrongPrior, WrongArithmetic: nothing was written.
    """
    began = time.monotonic()
    codec = codec or Codec()
    _check(tier, bpp, restore, format)
    streams, shared = _open(source, tier, ids)
    target = Folder.at(out)
    target.check_writable() if not _is_picture(out) else None
    names = Names(format)
    first = next(streams, None)
    result = Restored(out)
    if first is None:
        return result
    request = Request(
        profile=shared.profile.name,
        overrides=shared.profile.overrides(),
        prior=prior or shared.prior_name,
        arithmetic=shared.arithmetic,
        seed=shared.seed,
    )
    loaded = codec.load(request)
    for group in _groups(_chain(first, streams), batch):
        for name, pixels in _decoded(group, codec, loaded, bpp, restore):
            if isinstance(pixels, Exception):
                code = getattr(pixels, "code", "decode_failed")
                result.failed.append({"image_id": name, "code": code, "error": str(pixels)})
                continue
            _write(out, names, name, picture(pixels, format))
            result.written += 1
        progress(len(group))
    result.seconds = time.monotonic() - began
    return result


def picture(pixels: np.ndarray, format: str = "png") -> bytes:
    """uint8 (H, W, 1 or 3) as an image file."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, "JPEG" if format == "jpg" else format.upper(), **FORMATS[format])
    return file.getvalue()


class Names:
    """Ids to file names that stay inside the output folder, and never twice the same."""

    def __init__(self, format: str) -> None:
        self._suffix = f".{format}"
        self._given: set[str] = set()

    def __call__(self, image_id: str) -> str:
        parts = [p for p in PurePosixPath(image_id.replace("\0", "")).parts if p not in ("/", "..", ".")]
        whole = "/".join(_short(p) for p in parts) or "image"
        stem = os.path.splitext(whole)[0] or whole
        name = stem + self._suffix
        if name in self._given:
            name = whole + self._suffix
        number = 2
        while name in self._given:
            name = f"{whole}-{number}{self._suffix}"
            number += 1
        self._given.add(name)
        return name


def _open(
    source: str, tier: int | None, ids: Collection[str] | None
) -> tuple[Iterator[tuple[str, Any]], psc_core.SharedHeader]:
    folder = Folder.at(source)
    if folder.exists(PLAN):
        dataset = Dataset.open(source)
        if tier is not None:
            dataset.check_tier(tier)
        return dataset.streams(tier=tier, ids=ids), dataset.shared
    if not folder.exists() or folder.fs.isdir(folder.path):
        Dataset.open(source)
        raise NotADataset(f"{source} is not a PSC dataset")
    if ids:
        raise BadRequest("--ids chooses images of a dataset; this is one file")
    stream = psc_core.Stream.from_bytes(folder.fs.cat_file(folder.path))
    if tier is not None:
        stream = stream.truncate(tier=tier)
    name = os.path.basename(folder.path)
    return iter([(os.path.splitext(name)[0] + ".psc", stream)]), stream.shared


def _check(tier: int | None, bpp: float | None, restore: str, format: str) -> None:
    if tier is not None and bpp is not None:
        raise BadRequest("give a tier or a number of bits a pixel, and not both")
    if tier is not None and tier < 0:
        raise TierOutOfRange(f"tier {tier}: tiers are counted from 0")
    if bpp is not None and not bpp > 0:
        raise BadRequest(f"bpp {bpp}: expected a number above 0")
    if restore not in RESTORE:
        raise BadRequest(f"restore {restore!r}: expected one of {', '.join(RESTORE)}")
    if format not in FORMATS:
        raise BadRequest(f"format {format!r}: expected one of {', '.join(FORMATS)}")


def _decoded(
    group: list[tuple[str, Any]], codec: Codec, prior: Any, bpp: float | None, restore: str
) -> Iterator[tuple[str, Any]]:
    cut = [(name, _at_rate(stream, bpp)) for name, stream in group]
    results = iter(_pixels([s for _, s in cut if not isinstance(s, Exception)], codec, prior, restore))
    for name, stream in cut:
        yield name, stream if isinstance(stream, Exception) else next(results)


def _at_rate(stream: Any, bpp: float | None) -> Any:
    """The stream cut to a rate, counted as ``psc truncate --bpp`` does: without what the dataset shares."""
    if bpp is None or isinstance(stream, Exception):
        return stream
    return stream_under(stream, bpp)


def _pixels(streams: list[Any], codec: Codec, prior: Any, restore: str) -> list[Any]:
    """Images, or errors in the places of the streams that have one."""
    if not streams:
        return []
    try:
        return list(codec.decode(streams, prior, tier=None, restore=restore))
    except (WrongPrior, WrongArithmetic, InvalidPrior):
        raise
    except Exception as error:
        if len(streams) == 1:
            return [error]
    return [pixels for stream in streams for pixels in _pixels([stream], codec, prior, restore)]


def _write(out: str, names: Names, image_id: str, data: bytes) -> None:
    if _is_picture(out):
        folder, _, name = out.rpartition("/")
        Folder.at(folder or ".").put(name, data)
    else:
        Folder.at(out).put(names(image_id), data)


def _is_picture(out: str) -> bool:
    return os.path.splitext(out)[1].lower().lstrip(".") in FORMATS


def _groups(streams: Iterable[tuple[str, Any]], batch: int) -> Iterator[list[tuple[str, Any]]]:
    group: list[tuple[str, Any]] = []
    for one in streams:
        group.append(one)
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


def _chain(first: Any, others: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _short(part: str) -> str:
    if len(part.encode()) <= _LONGEST_NAME:
        return part
    return part[:40] + hashlib.sha256(part.encode()).hexdigest()[:16] + os.path.splitext(part)[1][:20]
