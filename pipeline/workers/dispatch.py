"""The driver's loop: two tasks in flight a worker, dead workers replaced, every task's end accounted for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import JobFailed, Unfit
from pipeline.workers.attempts import Attempts, Task
from pipeline.workers.cluster import IN_FLIGHT
from psc_core.errors import PscError

_START_ATTEMPTS = 3
_POLL = 0.5
_PERMANENT = (PscError, PermissionError, NotImplementedError, MemoryError)


@dataclass
class _Slot:
    """One worker. ``starting`` is its answer to come on whether it is fit, None once it was."""

    handle: Any = None
    starting: Any = None
    running: deque[tuple[Any, Task]] = field(default_factory=deque)
    failed_starts: int = 0
    unfit: int = 0
    """Workers in a row that became unfit without finishing a task."""


class Dispatcher:
    """Runs tasks on actors until none is left, or ``stop()`` says to take no new ones and the rest is
    drained.
    """

    def __init__(
        self,
        ray: Any,
        start: Callable[[], Any],
        workers: int,
        *,
        check: Callable[[str], None],
        call: Callable[[Any, Task], Any],
        stop: Callable[[], bool],
    ) -> None:
        self._ray, self._start, self._check, self._call, self._stop = ray, start, check, call, stop
        self._slots = [_Slot() for _ in range(workers)]
        self._attempts = Attempts()
        self._again: deque[Task] = deque()
        self._exhausted = False

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Any]]:
        """Yield each finished task and what it returned.

        Raises:
            PscError: a worker cannot start, or something failed that trying again does not help.
        """
        try:
            while True:
                stopping = self._stop()
                if not stopping:
                    self._fill(tasks)
                # A worker that is still starting may wait for a place that a lost node had.
                nothing_left = self._exhausted and not self._again
                if (stopping or nothing_left) and not any(slot.running for slot in self._slots):
                    return
                waiting = [ref for slot in self._slots for ref in self._refs(slot)]
                ready, _ = self._ray.wait(waiting, num_returns=1, timeout=_POLL)
                for ref in ready:
                    yield from self._arrived(ref)
        finally:
            for slot in self._slots:
                self._kill(slot)

    def _refs(self, slot: _Slot) -> list[Any]:
        return [slot.starting] if slot.starting is not None else [ref for ref, _ in slot.running]

    def _fill(self, tasks: Iterator[Task]) -> None:
        # One task a worker before anyone gets a second, or the last worker would idle.
        for depth in range(1, IN_FLIGHT + 1):
            for slot in self._slots:
                if len(slot.running) >= depth or slot.starting is not None:
                    continue
                if any(task.alone for _, task in slot.running):
                    continue
                task = self._again.popleft() if self._again else next(tasks, None)
                if task is None:
                    self._exhausted = True
                    return
                if task.alone and slot.running:
                    self._again.appendleft(task)
                    continue
                if slot.handle is None:
                    self._again.appendleft(task)
                    slot.handle = self._start()
                    slot.starting = slot.handle.describe.remote()
                else:
                    slot.running.append((self._call(slot.handle, task), task))

    def _arrived(self, ref: Any) -> Iterator[tuple[Task, Any]]:
        slot = next((s for s in self._slots if ref in self._refs(s)), None)
        if slot is None:
            return
        try:
            result = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            self._raised(slot, ref, error.cause)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.RaySystemError) as error:
            self._died(slot, error)
        else:
            if slot.starting is not None:
                self._check(result)
                slot.starting, slot.failed_starts = None, 0
                return
            task, slot.unfit = self._take(slot, ref), 0
            self._again.extend(self._attempts.finished(task))
            yield task, result

    def _raised(self, slot: _Slot, ref: Any, cause: Exception) -> None:
        if isinstance(cause, Unfit) and slot.starting is None:
            self._replace(slot, cause)
            return
        if slot.starting is not None or isinstance(cause, _PERMANENT):
            raise cause if isinstance(cause, PscError) else _job_failed(cause)
        self._again.extend(self._attempts.failed(self._take(slot, ref), cause))
        time.sleep(_POLL)

    def _replace(self, slot: _Slot, unfit: Unfit) -> None:
        """Another worker in the place of one that fails at everything; its tasks are not to blame."""
        slot.unfit += 1
        if slot.unfit >= _START_ATTEMPTS:
            raise unfit
        self._kill(slot)
        self._again.extendleft(task for _, task in reversed(slot.running))
        slot.running.clear()

    def _died(self, slot: _Slot, error: Exception) -> None:
        self._kill(slot)
        if slot.starting is not None:
            slot.failed_starts += 1
            slot.starting = None
            if slot.failed_starts >= _START_ATTEMPTS:
                raise JobFailed(f"a worker ends while it starts: {str(error).splitlines()[0]}") from None
            return
        tasks = [task for _, task in slot.running]
        slot.running.clear()
        # Of two, either may have ended it: one was encoded, the other read or written.
        again = self._attempts.crashed(tasks[0]) if len(tasks) == 1 else [replace(t, alone=True) for t in tasks]
        self._again.extendleft(reversed(again))

    def _take(self, slot: _Slot, ref: Any) -> Task:
        place, task = next((i, t) for i, (r, t) in enumerate(slot.running) if r == ref)
        del slot.running[place]
        return task

    def _kill(self, slot: _Slot) -> None:
        if slot.handle is not None:
            self._ray.kill(slot.handle, no_restart=True)
        slot.handle = None


def _job_failed(cause: Exception) -> JobFailed:
    return JobFailed(f"{type(cause).__name__}: {cause}")
