"""Compress: plan, dispatch, drain, resume."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline import commit
from pipeline import plan as planning
from pipeline.actors import Encoder
from pipeline.attempts import Task
from pipeline.cluster import cluster, shares, starter
from pipeline.codec import Codec
from pipeline.dispatch import Dispatcher
from pipeline.errors import JobFailed
from pipeline.interrupt import drain_on_interrupt
from pipeline.parts import file_sha256
from pipeline.plan import ItemsFile, Plan
from pipeline.request import Request
from pipeline.results import Result, Tally
from pipeline.sources import Source
from pipeline.storage import Folder

DEFAULT_BATCH = 8


def compress(
    source: str,
    dataset: str,
    request: Request | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    resume: bool = False,
    batch: int = DEFAULT_BATCH,
    codec: Codec | None = None,
    progress: Callable[[Tally], None] = lambda tally: None,
    on_stop: Callable[[], None] = lambda: None,
) -> Result:
    """Compress every image of ``source`` into the Parquet dataset ``dataset``.

    source and dataset are any fsspec URLs; workers: actors, by default one a GPU or one a CPU;
    address: a Ray cluster, by default this machine; batch: images encoded together, which does not change
    the result; progress is called with the tally after every shard, on_stop when Ctrl-C is first pressed.

    Raises:
        Refused: nothing was done (bad request, no source, target taken or planned otherwise).
        JobFailed: the job stopped early; resume it.
    """
    request, codec = request or Request(), codec or Codec()
    request = request.absolute()
    request.check()
    origin, target = Source(source), Folder.at(dataset)
    planned = planning.check_target(target, resume=resume)
    if planned is not None:
        _check_known(planned, origin, request)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="psc-plan-") as scratch:
        listed = planning.list_items(origin.items(), Path(scratch)) if planned is None else None
        if planned is not None and _is_done(target, planned):
            return _finish(target, planned, began, stopped=False)
        with cluster(address) as ray, drain_on_interrupt(on_stop) as stop:
            workers, share = shares(ray.cluster_resources(), workers)
            start = starter(ray, Encoder, share, request, origin, target, codec, batch=batch, threads=share.threads)
            first = start()
            shared = _describe(ray, first)
            if planned is None:
                assert listed is not None
                planned = planning.freeze(target, _plan(origin, request, shared, listed), listed[0])
            else:
                planning.check_same(planned, _plan(origin, request, shared, None, planned).fields())
            _run(ray, planned, target, _reusing(first, start), workers, stop, progress)
        return _finish(target, planned, began, stopped=stop())


def _run(
    ray: Any,
    plan: Plan,
    target: Folder,
    start: Callable[[], Any],
    workers: int,
    stop: Callable[[], bool],
    progress: Callable[[Tally], None],
) -> None:
    done = commit.committed_shards(target)
    tally = Tally(plan)
    for marker in commit.read_markers(target, done):
        tally.add(marker)
    progress(tally)
    items = ItemsFile(target, plan)
    stored = ray.put(plan)

    def check(shared: str) -> None:
        if shared != plan.shared:
            raise JobFailed(f"the workers differ in what they would write: {shared} is not {plan.shared}")

    def call(actor: Any, task: Task) -> Any:
        return actor.run.remote(stored, task, items.shard(task.shard))

    dispatcher = Dispatcher(ray, start, min(workers, plan.shards), check=check, call=call, stop=stop)
    try:
        for task, marker in dispatcher.run(_tasks(items, plan, set(done))):
            if task.probe is None:
                tally.add(marker)
                progress(tally)
    finally:
        items.close()


def _tasks(items: ItemsFile, plan: Plan, done: set[int]) -> Iterator[Task]:
    return (Task(shard, items.count(shard)) for shard in range(plan.shards) if shard not in done)


def _plan(
    source: Source,
    request: Request,
    shared: str,
    listed: tuple[Path, int, int] | None,
    like: Plan | None = None,
) -> Plan:
    """The plan for a new listing, or one with the listing of ``like``."""
    if listed is not None:
        file, shards, count = listed
        with open(file, "rb") as raw:
            name = f"_psc/items-{file_sha256(raw)[:16]}.parquet"
    else:
        assert like is not None
        shards, count, name = like.shards, like.items, like.items_file
    return Plan(
        kind="compress",
        source=source.full_url,
        shared=shared,
        params=request.params(),
        tiers=request.get_profile().tiers,
        shards=shards,
        items=count,
        items_file=name,
    )


def _check_known(planned: Plan, source: Source, request: Request) -> None:
    """Refuse what can be refused before anything is started."""
    known = request.known_fields() | {"source": source.full_url, "kind": "compress"}
    planning.check_same(planned, known, names=known)


def _describe(ray: Any, actor: Any) -> str:
    try:
        return ray.get(actor.describe.remote())
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise JobFailed(f"the first worker ended while it started: {str(error).splitlines()[0]}") from None


def _reusing(first: Any, start: Callable[[], Any]) -> Callable[[], Any]:
    ready = [first]
    return lambda: ready.pop() if ready else start()


def _is_done(target: Folder, plan: Plan) -> bool:
    return len(commit.committed_shards(target)) == plan.shards


def _finish(target: Folder, plan: Plan, began: float, *, stopped: bool) -> Result:
    done = commit.committed_shards(target)
    tally = Tally(plan)
    for marker in commit.read_markers(target, done):
        tally.add(marker)
    missing = plan.shards - len(done)
    if missing and not stopped:
        raise JobFailed(f"{missing} of {plan.shards} shards are not committed; run again with --resume")
    if not missing:
        target.sweep_spool()
    return Result(dataset=target.url, tally=tally, seconds=time.monotonic() - began, interrupted=bool(missing))
