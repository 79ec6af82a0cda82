"""Decompress: a dataset, or one ``.psc`` file, back to pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import psc_core
from pipeline.attempts import Task
from pipeline.cluster import Workers
from pipeline.codec import Codec
from pipeline.dataset import Dataset
from pipeline.decoder import Decoder, Wanted, decoded
from pipeline.dispatch import Dispatcher
from pipeline.driver import crew
from pipeline.errors import BadRequest, NotADataset
from pipeline.names import Names
from pipeline.pictures import FORMATS, PARQUET, picture, suffix_of
from pipeline.plan import PLAN
from pipeline.reach import reaching
from pipeline.request import Request
from pipeline.schema import OK
from pipeline.storage import Folder
from psc_core.errors import TierOutOfRange
from psc_core.profiles import RESTORATIONS

_TOLD = 1000


@dataclass
class Restored:
    """Outcome: files written; the images that did not decode, the first 1000 of them with their reasons."""

    out: str
    images: int
    written: int = 0
    failures: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 130 if self.interrupted else 1 if self.failures else 0

    def add(self, part: dict[str, Any]) -> None:
        self.written += part["written"]
        self.failures += len(part["failed"])
        self.failed += part["failed"][: _TOLD - len(self.failed)]

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "seconds": round(self.seconds, 3)}


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
    batch: int = Wanted.batch,
    workers: int | Workers | None = None,
    address: str | None = None,
    codec: Codec | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_stop: Callable[[], None] = lambda: None,
) -> Restored:
    """Decode a dataset (or those of its images in ``ids``) into files ``out``/ID.png, or one ``.psc`` file.

    format: of the files; or "parquet", which writes ``out``/part-00007.parquet for shard 7, with the columns
    image_id, width, height and image (a struct of the bytes of a PNG, and its name).

    tier: decode tiers 0..tier, of the images that have them; bpp: decode each image from at most that many
    bits a pixel; prior: where the prior is, if not under the name that the streams give; workers: Ray
    actors, or None to decode in this process; address: a Ray cluster. ``progress`` is called with images
    done and in all.

    Raises:
        Refused, TierOutOfRange, UnknownIds, PriorNotFound, WrongPrior, WrongArithmetic: nothing was written.
    """
    began = time.monotonic()
    wanted = Wanted(tier, bpp, restore, None if ids is None else frozenset(ids), format, batch)
    _check(wanted)
    folder = Folder.at(source)
    codec = codec or Codec()
    with reaching(source):
        is_file = not folder.exists(PLAN) and folder.exists() and not folder.fs.isdir(folder.path)
    if is_file:
        result = _one_file(folder, out, wanted, prior, codec)
    else:
        opened = Dataset.open(source)
        opened.shared.profile.check_restoration(restore)
        target = Folder.at(out)
        target.check_writable()
        names, total = _named(opened, wanted)
        result = Restored(out, total)
        parts = (opened, target, wanted, names, codec)
        request = Request.of_streams(opened.shared, prior=prior, loaded_from=opened.plan.prior)
        if workers is None and address is None:
            _here(request, *parts, result=result, progress=progress)
        else:
            _there(request, *parts, result, progress, on_stop, workers, address)
    result.seconds = time.monotonic() - began
    return result


def _here(
    request: Request,
    opened: Dataset,
    target: Folder,
    wanted: Wanted,
    names: Names,
    codec: Codec,
    *,
    result: Restored,
    progress: Callable[[int, int], None],
) -> None:
    decoder = Decoder(request, opened, target, wanted, names, codec)
    decoder.describe()
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(done, result.images)

    for shard in opened.shards:
        result.add(decoder.run(Task(shard, 0), step))


def _there(
    request: Request,
    opened: Dataset,
    target: Folder,
    wanted: Wanted,
    names: Names,
    codec: Codec,
    result: Restored,
    progress: Callable[[int, int], None],
    on_stop: Callable[[], None],
    workers: int | Workers | None,
    address: str | None,
) -> None:
    rows = {marker["shard"]: marker["status"].get(OK, 0) for marker in opened.markers}
    parts = (request, opened, target, wanted, names, codec)
    with crew(Decoder, *parts, workers=workers, address=address, on_stop=on_stop) as hands:
        dispatcher = Dispatcher(
            hands.ray,
            hands.start,
            min(hands.workers, max(1, len(rows))),
            check=lambda said: None,
            call=lambda actor, task: actor.run.remote(task),
            stop=hands.stop,
        )
        tasks = (Task(shard, number) for shard, number in rows.items() if number)
        for task, part in dispatcher.run(tasks):
            if task.probe is None:
                result.add(part)
                progress(result.written + result.failures, result.images)
        result.interrupted = hands.stop() and result.written + result.failures < result.images


def _named(opened: Dataset, wanted: Wanted) -> tuple[Names, int]:
    """The names of the pictures to come, and how many. Raises UnknownIds or TierOutOfRange first."""
    if wanted.tier is not None:
        opened.check_tier(wanted.tier)
    if wanted.ids is not None:
        opened.check_ids(wanted.ids)
        return Names.of(sorted(wanted.ids), suffix_of(wanted.format)), len(wanted.ids)
    return Names.of(opened.ids(), suffix_of(wanted.format)), opened.tally().ok


def _one_file(folder: Folder, out: str, wanted: Wanted, prior: str | None, codec: Codec) -> Restored:
    if wanted.format == PARQUET:
        raise BadRequest("format 'parquet' is for a dataset; this is one file: png, webp or jpg")
    if wanted.ids:
        raise BadRequest("--ids chooses images of a dataset; this is one file")
    data = folder.fs.cat_file(folder.path)
    if data[:4] == b"PAR1":
        raise NotADataset(f"{folder.url} is one part of a dataset: give the folder that it is in")
    stream = psc_core.Stream.from_bytes(data)
    if wanted.tier is not None:
        stream = stream.truncate(tier=wanted.tier)
    name = os.path.basename(folder.path)
    if os.path.splitext(out)[1].lower().lstrip(".") in FORMATS:
        parent, _, name = out.rpartition("/")
        target = Folder.at(parent or ("/" if out.startswith("/") else "."))
    else:
        target, name = Folder.at(out), Names(wanted.format)(name)
    target.check_writable()
    loaded = codec.load(Request.of_streams(stream.shared, prior=prior))
    ((_, pixels),) = decoded([(name, stream)], codec, loaded, wanted.bpp, wanted.restore)
    if isinstance(pixels, Exception):
        raise pixels
    target.put(name, picture(pixels, _format_of(name)))
    return Restored(out, 1, written=1)


def _format_of(name: str) -> str:
    return os.path.splitext(name)[1].lower().lstrip(".")


def _check(wanted: Wanted) -> None:
    if wanted.tier is not None and wanted.bpp is not None:
        raise BadRequest("give a tier or a number of bits a pixel, and not both")
    if wanted.tier is not None and wanted.tier < 0:
        raise TierOutOfRange(f"tier {wanted.tier}: tiers are counted from 0")
    if wanted.bpp is not None and not wanted.bpp > 0:
        raise BadRequest(f"bpp {wanted.bpp}: expected a number above 0")
    if wanted.restore not in RESTORATIONS:
        raise BadRequest(f"restore {wanted.restore!r}: expected one of {', '.join(RESTORATIONS)}")
    if wanted.format not in (*FORMATS, PARQUET):
        raise BadRequest(f"format {wanted.format!r}: expected one of {', '.join((*FORMATS, PARQUET))}")
