"""Failed inputs again: each is one row more with a stream, or keeps its reason.

A part is otherwise never touched once it is committed; here it is replaced whole, in one step, by one in which
only rows of failed inputs differ, and then its marker. A kill in between leaves a whole part whose marker still
counts the failures: the next retry comes by, sees them gone, and counts anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.codec import Codec
from pipeline.dataset import commit
from pipeline.dataset import plan as planning
from pipeline.dataset.plan import Plan
from pipeline.dataset.reader import Dataset
from pipeline.dataset.results import Result, Tally
from pipeline.dataset.standing import standing
from pipeline.errors import BadRequest
from pipeline.request import Request
from pipeline.run import DEFAULT_BATCH
from pipeline.sources import Item, Source
from pipeline.workers.actors import Encoder
from pipeline.workers.attempts import Task
from pipeline.workers.cluster import Workers
from pipeline.workers.driver import crew, finish
from pipeline.workers.interrupt import before_writing
from pipeline.workers.telemetry import Meter


def retry(
    dataset: str,
    *,
    status: Collection[str] | None = None,
    prior: str | None = None,
    workers: int | Workers | None = None,
    address: str | None = None,
    batch: int = DEFAULT_BATCH,
    codec: Codec | None = None,
    progress: Callable[[Tally], None] = lambda tally: None,
    on_stop: Callable[[], None] = lambda: None,
) -> Result:
    """Try the failed inputs of a compressed dataset again, with the source as it is now.

    status: only inputs that failed with these codes; prior: where it is, if not under its own name; the other
    options are those of :func:`pipeline.run.compress`. ``notes`` counts what was ``retried`` and ``recovered``.

    Raises:
        Refused: not a finished dataset, or one made from another.
        JobFailed: the job stopped early; the same command goes on.
    """
    began = time.monotonic()
    opened = Dataset.open(dataset)
    if opened.plan.kind != "compress":
        raise BadRequest(f"{dataset} was made by psc {opened.plan.kind}: retry the dataset that it was made from")
    opened.check_complete()
    before = opened.tally()
    wanted = frozenset(before.failed if status is None else status)
    if unknown := sorted(wanted - set(before.failed)):
        there = ", ".join(before.failed) or "none"
        raise BadRequest(f"no input of {dataset} has status {', '.join(unknown)}; it has: {there}")
    shards = [m for m in opened.markers if not wanted.isdisjoint(m["status"])]
    retried = sum(m["status"].get(code, 0) for m in shards for code in wanted)
    if shards:
        request = Request.of_plan(opened.plan, prior=prior)
        parts = (request, Source(opened.plan.source), opened.folder, codec or Codec())
        options: dict[str, Any] = {"batch": batch, "wanted": wanted}
        crewed = crew(Retrier, *parts, workers=workers, address=address, on_stop=on_stop, **options)
        with before_writing() as begin, crewed as hands:
            planning.check_same(opened.plan, replace(opened.plan, shared=hands.shared).fields())
            tally = Tally(opened.plan)
            for marker in opened.markers:
                if wanted.isdisjoint(marker["status"]):
                    tally.add(marker)
            progress(tally)
            begin()
            for marker in hands.work(opened.plan, opened.folder, (Task(m["shard"], m["rows"]) for m in shards)):
                tally.add(marker)
                progress(tally)
            stopped = hands.stop()
    result = finish(opened.folder, opened.plan, began, stopped=False)
    recovered = result.tally.ok - before.ok
    notes = {"retried": retried, "recovered": recovered}
    return replace(result, notes=notes, interrupted=bool(shards) and stopped, made=recovered)


class Retrier(Encoder):
    """Encodes the failed inputs of a shard and replaces its part."""

    def __init__(self, *args: Any, wanted: frozenset[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._wanted = wanted

    def run(self, plan: Plan, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        """Do one task: for a shard, its new marker; for a probe, nothing but having come back."""
        if task.probe is not None:
            return self._probe(plan, task, items)
        identity: dict[str, Any] = {"fingerprint": plan.fingerprint, "rows": len(items), "tiers": plan.tiers}
        with self._target.spool() as folder:
            local, figures = self._written(plan, task, items, folder)
            return commit.recommit(self._target, local, task.shard, figures=figures, **identity)

    def _rows(self, plan: Plan, task: Task, items: Sequence[Item], meter: Meter) -> Iterator[dict[str, Any]]:
        low, high = task.probe or (0, len(items))
        with standing(Dataset(self._target, plan, (task.shard,)), task.shard) as part:
            states = part.values("status", low, high)
            asked = {place for place, status in states.items() if status in self._wanted}
            items = [self._source.now(item) if place in asked else item for place, item in enumerate(items)]
            encoded = self._encoded(plan, task, items, sorted(asked), meter)
            for place, row in part.rows(low, high):
                yield next(encoded) if place in asked else row
