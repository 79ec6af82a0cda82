"""What runs on the workers: a prior loaded once, then a shard a call. Only descriptors and statistics come
and go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.codec import Codec
from pipeline.dataset.commit import adopt, commit
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.plan import Plan
from pipeline.inputs.images import quiet_pillow
from pipeline.request import Request
from pipeline.sources import Item, Source
from pipeline.stores.storage import Folder
from pipeline.workers.attempts import Task
from pipeline.workers.rows import encode_rows
from pipeline.workers.telemetry import Meter


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
        # Of two shards in flight one is encoded, while the other is read ahead, or written and uploaded.
        self._device = threading.Lock()
        # Ray hides the class of an exception in a constructor; kept, it is raised by the first call.
        self._broken: Exception | None = None
        try:
            self._prior = codec.load(request, threads)
            self._captioner = codec.captioner(request)
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
            return self._probe(plan, task, items)
        found = adopt(self._target, task.shard, fingerprint=plan.fingerprint, rows=len(items), tiers=plan.tiers)
        return found or self._encode(plan, task, items)

    def _encode(self, plan: Plan, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        identity: dict[str, Any] = {"fingerprint": plan.fingerprint, "tiers": plan.tiers}
        with self._target.spool() as folder:
            local, figures = self._written(plan, task, items, folder)
            return commit(self._target, local, task.shard, rows=len(items), figures=figures, **identity)

    def _probe(self, plan: Plan, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        with self._device:
            for _ in self._rows(plan, task, items, Meter(self._codec)):
                pass
        return {}

    def _written(self, plan: Plan, task: Task, items: Sequence[Item], folder: str) -> tuple[Path, dict[str, Any]]:
        """A part of a task's rows, in a local folder; and what it took."""
        local, meter = Path(folder) / f"shard-{task.shard:05d}", Meter(self._codec)
        rows = self._rows(plan, task, items, meter)
        with self._device:
            began = time.monotonic()
            writer = PartWriter(
                local, fingerprint=plan.fingerprint, shared=plan.shared, shard=task.shard, tiers=plan.tiers
            )
            try:
                for row in rows:
                    writer.add(row)
                    meter.row(row)
            finally:
                writer.close()
        figures = {"seconds": round(time.monotonic() - began, 3), "attempt": task.attempt}
        return local, figures | meter.figures()

    def _rows(self, plan: Plan, task: Task, items: Sequence[Item], meter: Meter) -> Iterator[dict[str, Any]]:
        """The rows of a task's inputs."""
        return self._encoded(plan, task, items, range(*(task.probe or (0, len(items)))), meter)

    def _encoded(
        self, plan: Plan, task: Task, items: Sequence[Item], places: Sequence[int], meter: Meter, **options: Any
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
            meter=meter,
            captioner=self._captioner,
            **options,
        )
