"""Decompress: a dataset, or one ``.psc`` file, back to pictures."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psc_core
from pipeline.codec import Codec
from pipeline.dataset.plan import PLAN
from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import OK
from pipeline.errors import BadRequest, NotADataset
from pipeline.outputs.decoder import Decoder, Wanted, decoded
from pipeline.outputs.pictures import FORMATS, PARQUET, finished, parts_in, picture, suffix_of
from pipeline.outputs.target import check_free, check_no_dataset, outputs
from pipeline.request import Request
from pipeline.stores.names import Names
from pipeline.stores.present import Present
from pipeline.stores.reach import reaching
from pipeline.stores.storage import Folder
from pipeline.workers.attempts import Task
from pipeline.workers.cluster import Workers
from pipeline.workers.dispatch import Dispatcher
from pipeline.workers.driver import crew
from psc_core.errors import TierOutOfRange
from psc_core.profiles import RESTORATIONS

_TOLD = 1000
_STOPPED = "pictures that are written stay; --resume goes on with the others"


@dataclass
class Restored:
    """Outcome: pictures written; those that a resumed run found there (``kept``); the images that did not decode, the
    first 1000 of them with their reasons.
    """

    out: str
    images: int
    written: int = 0
    kept: int = 0
    failures: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 130 if self.interrupted else 1 if self.failures else 0

    @property
    def done(self) -> int:
        return self.written + self.kept + self.failures

    def add(self, part: dict[str, Any]) -> None:
        self.written += part["written"]
        self.kept += part["kept"]
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
    resume: bool = False,
    overwrite: bool = False,
    codec: Codec | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_stop: Callable[[], None] = lambda: None,
    on_begin: Callable[[], None] = lambda: None,
) -> Restored:
    """Decode a dataset (or those of its images in ``ids``) into files ``out``/ID.png, or one ``.psc`` file.

    format: of the files; or "parquet", which writes ``out``/pictures-00007.parquet for shard 7, with the columns
    image_id, width, height and image (a struct of the bytes of a PNG, and its name).

    tier: decode tiers 0..tier, of the images that have them; bpp: decode each image from at most that many
    bits a pixel; prior: where the prior is, if not under the name that the streams give; workers: Ray
    actors; address: a Ray cluster. Without either of them, and without RAY_ADDRESS, this process decodes. ``progress``
    is called with images done and in all, ``on_begin`` when ``resume`` finds nothing to go on with.

    Nothing that is there is replaced, unless it is a picture of an earlier run and ``overwrite`` is given: datasets and
    the folder of the images that were compressed never take pictures. resume: go on with a run of the same arguments
    that was broken off, or whose dataset has more images by now; pictures that are there (with "parquet": parts that
    are whole) are not decoded again.

    Raises:
        Refused, TierOutOfRange, UnknownIds, PriorNotFound, WrongPrior, WrongArithmetic: nothing was written.
        KeyboardInterrupt: the user stopped it; ``resume`` goes on.
    """
    began = time.monotonic()
    wanted = Wanted(tier, bpp, restore, None if ids is None else frozenset(ids), format, batch)
    _check(wanted)
    folder = Folder.at(source)
    codec = codec or Codec()
    with reaching(source):
        is_file = not folder.exists(PLAN) and folder.exists() and not folder.fs.isdir(folder.path)
    if is_file:
        if resume:
            raise BadRequest("--resume is for a dataset; this is one file")
        result = _one_file(folder, out, wanted, prior, codec, overwrite)
    else:
        opened = Dataset.open(source)
        opened.shared.profile.check_restoration(restore)
        target = Folder.at(out)
        target.check_writable()
        names, shards = _named(opened, wanted)
        record = _record(opened, wanted, names)

        def taken(there: Present) -> Iterator[str]:
            return _taken(opened, target, wanted, names, there)

        place = outputs(opened, target, record, taken, resume=resume, overwrite=overwrite, on_begin=on_begin)
        if overwrite:
            _check_all_replaced(target, wanted, shards)
        result = Restored(out, sum(shards.values()))
        if place.there is not None and format == PARQUET:
            done = finished(target, shards)
            result.kept = sum(done.values())
            shards = {shard: count for shard, count in shards.items() if shard not in done}
        parts = (Request.of_streams(opened.shared, prior=prior, loaded_from=opened.plan.prior), opened, place)
        decoder = (*parts, wanted, names, codec)
        # As the other verbs do, on the cluster that the environment names: psc submit sets it.
        if workers is None and address is None and not os.environ.get("RAY_ADDRESS"):
            _here(*decoder, shards=shards, result=result, progress=progress)
        else:
            _there(decoder, shards, result, progress, on_stop, workers, address)
        if result.done == result.images and not result.failures:
            place.finish()
    result.seconds = time.monotonic() - began
    return result


def _here(*parts: Any, shards: Mapping[int, int], result: Restored, progress: Callable[[int, int], None]) -> None:
    decoder = Decoder(*parts)
    decoder.describe()
    try:
        for shard, count in shards.items():
            result.add(decoder.run(Task(shard, count), partial(_follow, progress, result.done, result.images)))
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(_STOPPED) from error


def _follow(progress: Callable[[int, int], None], before: int, images: int, done: int) -> None:
    progress(before + done, images)


def _there(
    parts: tuple[Any, ...],
    shards: Mapping[int, int],
    result: Restored,
    progress: Callable[[int, int], None],
    on_stop: Callable[[], None],
    workers: int | Workers | None,
    address: str | None,
) -> None:
    with crew(Decoder, *parts, workers=workers, address=address, on_stop=on_stop) as hands:
        dispatcher = Dispatcher(
            hands.ray,
            hands.start,
            min(hands.workers, max(1, len(shards))),
            check=lambda said: None,
            call=lambda actor, task: actor.run.remote(task),
            stop=hands.stop,
        )
        for task, part in dispatcher.run(Task(shard, count) for shard, count in shards.items()):
            if task.probe is None:
                result.add(part)
                progress(result.done, result.images)
        result.interrupted = hands.stop() and result.done < result.images


def _named(opened: Dataset, wanted: Wanted) -> tuple[Names, dict[int, int]]:
    """The names of the pictures to come, and how many each shard gives. Raises UnknownIds or TierOutOfRange first."""
    if wanted.tier is not None:
        opened.check_tier(wanted.tier)
    if wanted.ids is not None:
        found = opened.locate(wanted.ids)
        return Names.of(sorted(wanted.ids), suffix_of(wanted.format)), {s: len(ids) for s, ids in found.items()}
    held = {marker["shard"]: marker["status"].get(OK, 0) for marker in opened.markers}
    return Names.of(opened.ids(), suffix_of(wanted.format)), {shard: count for shard, count in held.items() if count}


def _record(opened: Dataset, wanted: Wanted, names: Names) -> dict[str, Any]:
    """All that decides which picture is at which name, by the names of the options."""
    plan = opened.plan
    said = {name: getattr(wanted, name) for name in ("tier", "bpp", "restore", "format")}
    said["ids"] = None if wanted.ids is None else f"{len(wanted.ids)} of sha256 {_digest(*sorted(wanted.ids))}"
    said["dataset"] = f"{plan.kind} of {plan.source}, sha256 {_digest(plan.to_json())}"
    return said | {"names of pictures": _digest(*map(str, (sorted(names.shared), sorted(names.repeated))))}


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _taken(opened: Dataset, target: Folder, wanted: Wanted, names: Names, there: Present) -> Iterator[str]:
    """What is there of the names that this run writes; of rows any, as parts of two runs are no table."""
    if wanted.format == PARQUET:
        return iter(parts_in(target).values())
    ids = opened.ids() if wanted.ids is None else sorted(wanted.ids)
    return (name for name in map(names, ids) if name in there)


def _check_all_replaced(target: Folder, wanted: Wanted, shards: Mapping[int, int]) -> None:
    if wanted.format == PARQUET:
        left = (name for shard, name in parts_in(target).items() if shard not in shards)
        check_free(target, left, "this run would leave them as they are, among its own; choose another folder")


def _one_file(folder: Folder, out: str, wanted: Wanted, prior: str | None, codec: Codec, overwrite: bool) -> Restored:
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
    check_no_dataset(target)
    if not overwrite and target.exists(name):
        raise BadRequest(f"{target.full(name)} is there already: add --overwrite to replace it, or give another name")
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
        raise BadRequest("give a tier (--tier) or a number of bits a pixel (--bpp), and not both")
    if wanted.tier is not None and wanted.tier < 0:
        raise TierOutOfRange(f"tier {wanted.tier}: tiers are counted from 0")
    if wanted.bpp is not None and not wanted.bpp > 0:
        raise BadRequest(f"bpp {wanted.bpp}: expected a number above 0")
    if wanted.restore not in RESTORATIONS:
        raise BadRequest(f"restore {wanted.restore!r}: expected one of {', '.join(RESTORATIONS)}")
    if wanted.format not in (*FORMATS, PARQUET):
        raise BadRequest(f"format {wanted.format!r}: expected one of {', '.join((*FORMATS, PARQUET))}")
