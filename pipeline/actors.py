"""What runs on the workers: a prior loaded once, then a shard a call. Only descriptors and statistics come
and go.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.attempts import Task
from pipeline.codec import Codec
from pipeline.commit import adopt, commit
from pipeline.images import quiet_pillow
from pipeline.parts import PartWriter
from pipeline.plan import Plan
from pipeline.request import Request
from pipeline.rows import encode_rows
from pipeline.sources import Item, Source
from pipeline.storage import Folder


class Encoder:
    """Encodes and commits shards of one dataset. Plain Python: Ray wraps it, tests call it directly."""

    def __init__(
        self,
        request: Request,
        source: Source,
        target: Folder,
        codec: Codec,
        *,
        batch: int,
        threads: int | None,
    ) -> None:
        quiet_pillow()
        self._request, self._source, self._target = request, source, target
        self._codec, self._batch = codec, batch
        # Ray hides the class of an exception in a constructor; kept, it is raised by the first call.
        self._broken: Exception | None = None
        try:
            self._prior = codec.load(request, threads)
        except Exception as error:
            self._broken = error

    def describe(self) -> str:
        """The header that this worker would write, as JSON. Raises what kept its prior from loading."""
        if self._broken is not None:
            raise self._broken
        return self._codec.shared(self._request, self._prior)

    def run(self, plan: Plan, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        """Do one task: for a shard, its commit marker; for a probe, nothing but having come back."""
        if task.probe is not None:
            for _ in self._rows(plan, task, items):
                pass
            return {}
        found = adopt(self._target, task.shard, fingerprint=plan.fingerprint, rows=len(items), tiers=plan.tiers)
        return found or self._encode(plan, task, items)

    def _encode(self, plan: Plan, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        began = time.monotonic()
        identity: dict[str, Any] = {"fingerprint": plan.fingerprint, "tiers": plan.tiers}
        with self._target.spool() as folder:
            local = self._written(plan, task, self._rows(plan, task, items), folder)
            figures = {"seconds": round(time.monotonic() - began, 3), "attempt": task.attempt}
            return commit(self._target, local, task.shard, rows=len(items), figures=figures, **identity)

    def _written(self, plan: Plan, task: Task, rows: Iterable[Mapping[str, Any]], folder: str) -> Path:
        """A part of these rows, in a local folder."""
        local = Path(folder) / f"shard-{task.shard:05d}"
        writer = PartWriter(local, fingerprint=plan.fingerprint, shared=plan.shared, shard=task.shard, tiers=plan.tiers)
        try:
            for row in rows:
                writer.add(row)
        finally:
            writer.close()
        return local

    def _rows(self, plan: Plan, task: Task, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """The rows of a task's inputs."""
        return self._encoded(plan, task, items, range(*(task.probe or (0, len(items)))))

    def _encoded(
        self, plan: Plan, task: Task, items: Sequence[Item], places: Sequence[int], **options: Any
    ) -> Iterator[dict[str, Any]]:
        return encode_rows(
            self._source,
            items,
            self._request,
            self._codec,
            self._prior,
            shared=plan.shared,
            batch=self._batch,
            places=places,
            skip=task.skip,
            **options,
        )
