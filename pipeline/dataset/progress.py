"""How fast a job goes, and when it will be done: from the commits of its dataset, in whatever process it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from pipeline.dataset.commit import COMMITS, read_markers, shard_of
from pipeline.dataset.plan import read_plan
from pipeline.dataset.results import Tally
from pipeline.stores.storage import Folder

WINDOW = 16
"""Commits over which speed is measured: recent enough to follow a cluster that grows."""


@dataclass(frozen=True)
class Progress:
    """A dataset at one moment. ``rate`` in inputs/s and ``eta`` in seconds are None until two commits tell;
    ``silent``: seconds since the last commit, None before the first.
    """

    tally: Tally
    rate: float | None = None
    silent: float | None = None

    @property
    def left(self) -> int:
        return self.tally.plan.items - self.tally.rows

    @property
    def complete(self) -> bool:
        return self.tally.shards == self.tally.plan.shards

    @property
    def eta(self) -> float | None:
        return 0.0 if self.complete else self.left / self.rate if self.rate else None

    def as_dict(self) -> dict[str, Any]:
        pace = {"complete": self.complete, "images_per_second": self.rate, "eta_seconds": self.eta}
        return pace | {"seconds_since_commit": self.silent} | self.tally.as_dict()


def pace(commits: list[tuple[float, int]], now: float) -> float | None:
    """Inputs/s of the last commits (time in seconds, inputs), ascending; None below two at different times.

    The first of them only starts the clock: how long its inputs took is not known. A wait longer than any before
    counts as well, so that a stuck job slows down in sight.
    """
    recent = commits[-WINDOW - 1 :]
    if len(recent) < 2:
        return None
    waits = [b - a for (a, _), (b, _) in pairwise(recent)]
    late = max(0.0, now - recent[-1][0] - max(waits))
    seconds = recent[-1][0] - recent[0][0] + late
    return sum(rows for _, rows in recent[1:]) / seconds if seconds > 0 else None


@dataclass
class Watch:
    """Follows a dataset, reading each marker once, or again when it was replaced."""

    folder: Folder
    _seen: dict[int, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def look(self) -> Progress:
        """The state now: one listing, and the new markers. Raises :class:`~pipeline.errors.NotADataset`."""
        plan = read_plan(self.folder)
        times = commit_times(self.folder)
        new = [shard for shard, when in times.items() if self._seen.get(shard, (None,))[0] != when]
        for shard, marker in zip(new, read_markers(self.folder, new), strict=True):
            self._seen[shard] = (times[shard], marker)
        tally = Tally(plan)
        for _, marker in self._seen.values():
            tally.add(marker)
        commits = sorted((when, marker["rows"]) for when, marker in self._seen.values())
        now = time.time()
        silent = max(0.0, now - commits[-1][0]) if commits else None
        return Progress(tally, None if tally.shards == plan.shards else pace(commits, now), silent)

    def until_complete(self, seconds: float) -> Iterator[Progress]:
        """The state every so many seconds, at last the complete one."""
        while True:
            seen = self.look()
            yield seen
            if seen.complete:
                return
            time.sleep(seconds)


def commit_times(folder: Folder) -> dict[int, float]:
    """When each shard's marker was written, in seconds since 1970 by the clock of the store: one listing."""
    try:
        entries = folder.fs.ls(folder.full(COMMITS), detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = {shard_of(entry["name"].rsplit("/", 1)[-1]): entry for entry in entries}
    return {shard: _seconds(found[shard]) for shard in sorted(shard for shard in found if shard is not None)}


def _seconds(entry: dict[str, Any]) -> float:
    """File systems call it differently."""
    found = next((entry[name] for name in ("mtime", "LastModified", "updated", "created") if entry.get(name)), 0.0)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found)
