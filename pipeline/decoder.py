"""Decoding one part of a dataset into pictures: what a worker does, or this process when there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.attempts import Task
from pipeline.codec import Codec, OneAtATime, stream_under
from pipeline.dataset import Dataset
from pipeline.errors import Crashed
from pipeline.names import Names
from pipeline.pictures import pictures
from pipeline.request import Request
from pipeline.rows import CRASH_ATTEMPTS
from pipeline.storage import Folder
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


class Decoder:
    """Decodes parts. Plain Python: Ray wraps it, or it is called directly."""

    def __init__(
        self,
        request: Request,
        dataset: Dataset,
        out: Folder,
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
        """Write the pictures of one part; how many, and the ids that did not decode with their reasons."""
        wanted = self._wanted
        one = Dataset(self._dataset.folder, self._dataset.plan, (task.shard,))
        streams = list(one.streams(tier=wanted.tier, ids=wanted.ids, checked=True))
        low, high = task.probe or (0, len(streams))
        places = [place for place in range(low, min(high, len(streams))) if place not in task.skip]
        crashed = Crashed(f"decoding it ended its process {CRASH_ATTEMPTS} times")
        failed = [_failure(streams[place][0], crashed) for place in sorted(task.skip) if low <= place < high]
        written = 0
        sink = pictures(self._out, self._names, wanted.format, task.shard)
        try:
            for group in groups((streams[place] for place in places), wanted.batch):
                for image_id, pixels in decoded(group, self._codec, self._prior, wanted.bpp, wanted.restore):
                    if isinstance(pixels, Exception):
                        failed.append(_failure(image_id, pixels))
                        continue
                    sink.add(image_id, pixels)
                    written += 1
                progress(len(group))
        except BaseException:
            sink.discard()
            raise
        sink.discard() if task.probe is not None or not written else sink.close()
        return {"written": written, "failed": failed}


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
