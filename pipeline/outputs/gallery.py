"""A few images of a dataset, spread over it, decoded at every tier, beside their originals where these can be had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

import psc_core
from pipeline.codec import Codec
from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import OK
from pipeline.inputs.originals import NEEDED, originals
from pipeline.outputs.decoder import CONFIGURATION
from pipeline.request import Request
from psc_core.canvas import count_canvases
from psc_core.errors import PriorNotFound
from psc_core.metrics import psnr


@dataclass(frozen=True)
class Frame:
    """One image up to one tier: pixels (H, W, C) uint8, or why they could not be decoded.

    psnr in dB: against the original if there is one (``measured``), else as the encoder estimated it.
    """

    tier: int
    pixels: np.ndarray | None
    error: str
    bytes: int
    bpp: float
    psnr: float | None
    measured: bool


@dataclass(frozen=True)
class Shown:
    """One image of the gallery; ``original`` is pixels, or in one phrase why there are none."""

    image_id: str
    width: int
    height: int
    frames: list[Frame]
    original: np.ndarray | str
    condition: str | int | None = None
    """The prompt or class label that it was coded with."""


@dataclass(frozen=True)
class Gallery:
    """The images, and what decoding them cost: denoiser calls, seconds."""

    shown: list[Shown] = field(default_factory=list)
    nfe: int = 0
    seconds: float = 0.0


def gallery(
    opened: Dataset,
    images: int,
    *,
    source: str | None = None,
    prior: str | None = None,
    codec: Codec | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Gallery:
    """Decode ``images`` images at each of their tiers; without any, no prior is loaded.

    Each is the one of a stretch of the dataset that has the fewest canvases, of those the one nearest to its middle,
    among the rows of one part: the same ones every time. progress is called with pictures done and in all.

    Raises:
        PriorNotFound, WrongPrior, InvalidPrior: the pictures cannot be decoded here.
        SourceNotFound: ``source`` is not there.
    """
    rows = list(_chosen(opened, images))
    if not rows:
        return Gallery()
    began, codec = time.monotonic(), codec or Codec()
    request = Request.of_streams(opened.shared, prior=prior, loaded_from=opened.plan.prior)
    try:
        loaded = codec.load(request)
    except PriorNotFound as error:
        raise PriorNotFound(f"{error}; --images 0 does without pictures") from None
    calls = loaded.nfe
    sources = originals(rows, source)
    pictures = _pictures(opened, rows, codec, loaded, progress)
    shown = [_shown(row, pictures[row["image_id"]], sources[row["image_id"]]) for row in rows]
    return Gallery(shown, loaded.nfe - calls, time.monotonic() - began)


def _chosen(opened: Dataset, count: int) -> Iterator[dict[str, Any]]:
    """Rows, without payloads, of ``count`` images in their order, each with its ``shard``."""
    total, first, place = opened.tally().ok, 0, 0
    count = min(count, total)
    bounds = [total * i // count for i in range(count + 1)] if count else [0]
    for shard, marker in zip(opened.shards, opened.markers, strict=True):
        held = marker["status"].get(OK, 0)
        middles = []
        while place < count and (bounds[place] + bounds[place + 1]) // 2 < first + held:
            middles.append((bounds[place], bounds[place + 1]))
            place += 1
        if middles:
            rows = _rows(opened, shard)
            for low, high in middles:
                inside = range(max(low - first, 0), min(high - first, held))
                yield rows[min(inside, key=lambda i: _rank(opened, rows[i], abs(first + i - (low + high) // 2)))]
        first += held


def _rank(opened: Dataset, row: Mapping[str, Any], distance: int) -> tuple[int, int]:
    return count_canvases(row["height"], row["width"], opened.shared.profile.canvas), distance


def _rows(opened: Dataset, shard: int) -> list[dict[str, Any]]:
    with opened.open_part(shard) as part:
        table = part.read(columns=["status", *NEEDED, *(f"t{k}_psnr" for k in range(opened.tiers))])
    return [row | {"shard": shard} for row in table.filter(pc.equal(table["status"], OK)).to_pylist()]


def _pictures(
    opened: Dataset, rows: Sequence[Mapping[str, Any]], codec: Codec, prior: Any, progress: Callable[[int, int], None]
) -> dict[str, list[tuple[psc_core.Stream | None, Any]]]:
    """By image id, for each tier, the stream up to it and its pixels, or the error that it has."""
    streams = _streams(opened, rows)
    done, total = 0, sum(len(s.tiers) for s in streams.values() if not isinstance(s, Exception))
    found: dict[str, list[tuple[psc_core.Stream | None, Any]]] = {}
    for image_id, stream in streams.items():
        if isinstance(stream, Exception):
            found[image_id] = [(None, stream)]
            continue
        found[image_id] = []
        for tier, pixels in enumerate(_every_tier(stream, codec, prior)):
            progress(done, total)
            found[image_id].append((stream.truncate(tier=tier), pixels))
            done += 1
    progress(done, total)
    return found


def _every_tier(stream: psc_core.Stream, codec: Codec, prior: Any) -> Iterator[Any]:
    """Pixels of one tier after the other; from one that does not decode on, its error."""
    pictures, error = codec.every_tier(stream, prior), None
    for _ in stream.tiers:
        try:
            yield error or next(pictures)
        except CONFIGURATION:
            raise
        except Exception as problem:
            error = problem
            yield error


def _streams(opened: Dataset, rows: Sequence[Mapping[str, Any]]) -> dict[str, psc_core.Stream | Exception]:
    found: dict[str, psc_core.Stream | Exception] = {}
    for shard in sorted({row["shard"] for row in rows}):
        ids = {row["image_id"] for row in rows if row["shard"] == shard}
        found |= dict(Dataset(opened.folder, opened.plan, (shard,)).streams(ids=ids, checked=True))
    return found


def _shown(row: Mapping[str, Any], pictures: Sequence[tuple[Any, Any]], original: np.ndarray | str) -> Shown:
    frames = [_frame(row, k, stream, pixels, original) for k, (stream, pixels) in enumerate(pictures)]
    condition = next((stream.image.condition for stream, _ in pictures if stream is not None), None)
    return Shown(row["image_id"], row["width"], row["height"], frames, original, condition)


def _frame(row: Mapping[str, Any], tier: int, stream: Any, pixels: Any, original: np.ndarray | str) -> Frame:
    if isinstance(pixels, Exception):
        return Frame(tier, None, f"{type(pixels).__name__}: {pixels}", 0, 0.0, None, False)
    size = len(stream.image_header) + sum(len(t.data) for t in stream.tiers)
    same = isinstance(original, np.ndarray) and original.shape == pixels.shape
    quality = psnr(np.asarray(original), pixels) if same else row[f"t{tier}_psnr"]
    return Frame(tier, pixels, "", size, 8 * size / (row["width"] * row["height"]), quality, same)
