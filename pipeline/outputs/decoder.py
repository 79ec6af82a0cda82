"""Decoding one part of a dataset into pictures: what a worker does, or this process when there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from pipeline.codec import Codec, OneAtATime, stream_under
from pipeline.dataset.reader import Dataset
from pipeline.errors import Crashed
from pipeline.outputs.pictures import PARQUET, pictures
from pipeline.outputs.target import Outputs
from pipeline.request import Request
from pipeline.stores.names import Names
from pipeline.workers.attempts import Task
from pipeline.workers.rows import CRASH_ATTEMPTS
from psc_core.errors import InvalidPrior, WrongArithmetic, WrongPrior

CONFIGURATION = (WrongPrior, WrongArithmetic, InvalidPrior)
"""What keeps every stream of a dataset from decoding."""


@dataclass(frozen=True)
class Wanted:
    """What to decode and how. ``bpp`` cuts each stream first; ``ids`` None is everything."""

    tier: int | None = None
    bpp: float | None = None
    restore: str = "mean"
    ids: frozenset[str] | None = None
    format: str = "png"
    batch: int = 8


@dataclass
class Part:
    """What came of one part; ``kept`` pictures were there already."""

    written: int = 0
    kept: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.written + self.kept + len(self.failed)


class Decoder:
    """Decodes parts. Plain Python: Ray wraps it, or it is called directly."""

    def __init__(
        self,
        request: Request,
        dataset: Dataset,
        out: Outputs,
        wanted: Wanted,
        names: Names,
        codec: Codec,
        threads: int | None = None,
    ) -> None:
        self._dataset, self._out, self._wanted, self._names, self._codec = (
            dataset,
            out,
            wanted,
            names,
            OneAtATime(codec),
        )
        self._begun = False
        # Ray hides the class of an exception in a constructor; kept, it is raised by the first call.
        self._broken: Exception | None = None
        try:
            self._prior = codec.load(request, threads)
        except Exception as error:
            self._broken = error

    def describe(self) -> str:
        """Nothing, or what kept the prior from loading."""
        if self._broken is not None:
            raise self._broken
        return ""

    def run(self, task: Task, progress: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
        """Write the pictures of one part; how many, how many were there, and the ids that did not decode, with their
        reasons.
        """
        wanted, part = self._wanted, Part()
        sink = pictures(self._out.folder, self._names, wanted.format, task.shard)
        try:
            for group in groups(self._due(task, part), wanted.batch):
                for image_id, pixels in decoded(group, self._codec, self._prior, wanted.bpp, wanted.restore):
                    if isinstance(pixels, Exception):
                        part.failed.append(_failure(image_id, pixels))
                        continue
                    self._begin()
                    sink.add(image_id, pixels)
                    part.written += 1
                progress(part.done)
        except BaseException:
            sink.discard()
            raise
        # Without a picture it is written too, if it takes the place of an earlier run's.
        if task.probe is None and (part.written or self._out.overwrite):
            self._begin()
            sink.close()
        else:
            sink.discard()
        progress(part.done)
        return vars(part)

    def _due(self, task: Task, part: Part) -> Iterator[tuple[str, Any]]:
        """The streams to decode; of the others, ``part`` is told."""
        one = replace(self._dataset, shards=(task.shard,))
        streams = enumerate(one.streams(tier=self._wanted.tier, ids=self._wanted.ids, checked=True))
        for place, (image_id, stream) in islice(streams, *(task.probe or (None,))):
            if place in task.skip:
                part.failed.append(_failure(image_id, Crashed(f"decoding it ended its process {CRASH_ATTEMPTS} times")))
            elif self._is_there(image_id):
                part.kept += 1
            else:
                yield image_id, stream

    def _is_there(self, image_id: str) -> bool:
        there = self._out.there
        return there is not None and self._wanted.format != PARQUET and self._names(image_id) in there

    def _begin(self) -> None:
        if not self._begun:
            self._out.begin()
            self._begun = True


def decoded(
    group: list[tuple[str, Any]], codec: Codec, prior: Any, bpp: float | None, restore: str
) -> Iterator[tuple[str, Any]]:
    """Ids with pixels, or with the error of a stream that does not decode.

    Raises:
        WrongPrior, WrongArithmetic, InvalidPrior: no stream of the dataset would decode.
    """
    cut = [
        (name, stream if bpp is None or isinstance(stream, Exception) else stream_under(stream, bpp))
        for name, stream in group
    ]
    results = iter(_pixels([s for _, s in cut if not isinstance(s, Exception)], codec, prior, restore))
    for name, stream in cut:
        yield name, stream if isinstance(stream, Exception) else next(results)


def groups(streams: Iterable[tuple[str, Any]], batch: int) -> Iterator[list[tuple[str, Any]]]:
    """Lists of at most ``batch``."""
    group: list[tuple[str, Any]] = []
    for one in streams:
        group.append(one)
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


def _pixels(streams: list[Any], codec: Codec, prior: Any, restore: str) -> list[Any]:
    """Images, or errors in the places of the streams that have one."""
    if not streams:
        return []
    try:
        return list(codec.decode(streams, prior, tier=None, restore=restore))
    except CONFIGURATION:
        raise
    except Exception as error:
        if len(streams) == 1:
            return [error]
    return [pixels for stream in streams for pixels in _pixels([stream], codec, prior, restore)]


def _failure(image_id: str, error: Exception) -> dict[str, str]:
    return {"image_id": image_id, "code": getattr(error, "code", "decode_failed"), "error": str(error)}
