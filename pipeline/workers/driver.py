"""What every job over shards shares: workers that are started and checked, their tasks, the count of what is
committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.dataset import commit
from pipeline.dataset.plan import ItemsFile, Plan
from pipeline.dataset.results import Result, Tally
from pipeline.errors import JobFailed
from pipeline.stores.storage import Folder
from pipeline.workers.attempts import Task
from pipeline.workers.cluster import Workers, cluster, resources, shares, starter
from pipeline.workers.dispatch import Dispatcher
from pipeline.workers.interrupt import drain_on_interrupt
from pipeline.workers.telemetry import tell
from psc_core.errors import PscError

_POLL = 0.5


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Workers on a cluster. ``shared`` is the stream header that they would write; ``stop`` is whether the
    user asked to.
    """

    ray: Any
    start: Callable[[], Any]
    workers: int
    shared: str
    stop: Callable[[], bool]

    def work(self, plan: Plan, target: Folder, tasks: Iterable[Task]) -> Iterator[dict[str, Any]]:
        """Run tasks and yield what each shard's gave, as they finish.

        Raises :class:`JobFailed`, with the code of what ended the job: some shards may be committed by then.
        """
        items = ItemsFile(target, plan)
        stored = self.ray.put(plan)

        def check(shared: str) -> None:
            if shared != plan.shared:
                raise JobFailed(f"the workers differ in what they would write: {shared} is not {plan.shared}")

        def call(actor: Any, task: Task) -> Any:
            return actor.run.remote(stored, task, items.shard(task.shard))

        workers = min(self.workers, plan.shards)
        dispatcher = Dispatcher(self.ray, self.start, workers, check=check, call=call, stop=self.stop)
        try:
            yield from (result for task, result in dispatcher.run(iter(tasks)) if task.probe is None)
        except PscError as error:
            raise error if isinstance(error, JobFailed) else JobFailed.of(error) from error
        finally:
            items.close()


@contextmanager
def crew(
    kind: type,
    *args: Any,
    workers: int | Workers | None,
    address: str | None,
    on_stop: Callable[[], None],
    **options: Any,
) -> Iterator[Crew]:
    """Connect to Ray and start a first actor of ``kind``.

    Raises:
        BadRequest: no such cluster, or no worker.
        PscError: what kept the actor's prior from loading.
        JobFailed: the actor ended.
        KeyboardInterrupt: the user stopped the job before the actor started.
    """
    Workers.of(workers).check()
    starting = True
    inner = drain_on_interrupt(lambda: None if starting else on_stop())
    with _connected(address, on_stop) as ray, inner as stop:
        count, share = shares(resources(ray), workers)
        start = starter(ray, kind, share, *args, threads=share.threads, **options)
        first = start()
        shared = _describe(ray, first, stop)
        starting = False
        # Asked for while nothing was said, it is not to be forgotten.
        if stop():
            raise KeyboardInterrupt
        yield Crew(ray=ray, start=_reusing(first, start), workers=count, shared=shared, stop=stop)


@contextmanager
def _connected(address: str | None, on_stop: Callable[[], None]) -> Iterator[Any]:
    """Ray, unless the user stops the job meanwhile: whatever then comes of it.

    Ray sets handlers of its own as it starts, and does not survive to be interrupted there.
    """
    with ExitStack() as stack:
        stopped = stack.enter_context(drain_on_interrupt(on_stop))
        try:
            ray = stack.enter_context(cluster(address))
        except Exception as error:
            if stopped():
                raise KeyboardInterrupt from error
            raise
        if stopped():
            raise KeyboardInterrupt
        yield ray


def run_missing(
    hands: Crew,
    plan: Plan,
    target: Folder,
    progress: Callable[[Tally], None],
    made: Callable[[Tally], int] = lambda tally: tally.ok,
) -> int:
    """Do the shards that have no marker: how many images that made, of which a tally counts ``made``."""
    tally = committed(target, plan)
    before = made(tally)
    tell(tally)
    progress(tally)
    done = set(commit.committed_shards(target))
    counts = ItemsFile(target, plan)
    tasks = (Task(shard, counts.count(shard)) for shard in range(plan.shards) if shard not in done)
    try:
        for marker in hands.work(plan, target, tasks):
            tally.add(marker)
            tell(tally)
            progress(tally)
    finally:
        counts.close()
    return made(tally) - before


def committed(target: Folder, plan: Plan) -> Tally:
    """Sums over what is committed: one listing and the markers."""
    tally = Tally(plan)
    for marker in commit.read_markers(target, commit.committed_shards(target)):
        tally.add(marker)
    return tally


def is_done(target: Folder, plan: Plan) -> bool:
    return len(commit.committed_shards(target)) == plan.shards


def finish(target: Folder, plan: Plan, began: float, *, stopped: bool, **options: Any) -> Result:
    """The result of a job that ended, or was stopped. Raises :class:`JobFailed` if shards are missing
    otherwise.
    """
    tally = committed(target, plan)
    missing = plan.shards - tally.shards
    if missing and not stopped:
        raise JobFailed(f"not committed: {missing} of {plan.shards} shards; run again with --resume")
    if not missing:
        target.sweep_spool()
    seconds = time.monotonic() - began
    return Result(dataset=target.url, tally=tally, seconds=seconds, interrupted=bool(missing), **options)


def _describe(ray: Any, actor: Any, stop: Callable[[], bool]) -> str:
    ref = actor.describe.remote()
    # A cluster may take long to find it a place, or never do.
    while not ray.wait([ref], timeout=_POLL)[0]:
        if stop():
            raise KeyboardInterrupt
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise JobFailed(f"the first worker ended while it started: {str(error).splitlines()[0]}") from None


def _reusing(first: Any, start: Callable[[], Any]) -> Callable[[], Any]:
    ready = [first]
    return lambda: ready.pop() if ready else start()
