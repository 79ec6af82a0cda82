"""How often what is tried: a crashing shard is repeated, then bisected until the inputs that crash are known.

Pure bookkeeping, no Ray. Attempts are counted by the driver: an actor that retries its own calls would
never give up on an input that ends its process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pipeline.errors import JobFailed
from pipeline.workers.rows import CRASH_ATTEMPTS

ERROR_ATTEMPTS = 3
_ROUNDS = 3


@dataclass(frozen=True)
class Task:
    """One call of an actor: encode and commit a shard without the inputs in ``skip``, or only try places lo
    to hi.
    """

    shard: int
    items: int
    probe: tuple[int, int] | None = None
    skip: frozenset[int] = frozenset()
    attempt: int = 1
    alone: bool = False
    """Not beside another task on its worker: if that ends, it is known which one did it."""


@dataclass
class _Suspect:
    pending: int = 0
    rounds: int = 0
    culprits: set[int] = field(default_factory=set)


class Attempts:
    """Turns the end of a task into the tasks to do next."""

    def __init__(self) -> None:
        self._suspects: dict[int, _Suspect] = {}

    def crashed(self, task: Task) -> list[Task]:
        """``task`` ended its process, being alone there.

        Raises:
            JobFailed: the shard goes on crashing although none of its inputs does alone.
        """
        if task.probe is not None:
            return self._probe_crashed(task, task.probe)
        if task.attempt < CRASH_ATTEMPTS:
            return [replace(task, attempt=task.attempt + 1, alone=True)]
        suspect = self._suspects.setdefault(task.shard, _Suspect())
        suspect.rounds += 1
        if suspect.rounds > _ROUNDS:
            raise JobFailed(
                f"shard {task.shard} goes on ending its worker, though none of its inputs does alone: "
                "is there memory enough? Try fewer --workers with --resume"
            )
        suspect.pending = 1
        skip = frozenset(suspect.culprits)
        everything = Task(task.shard, task.items, probe=(0, task.items), skip=skip, alone=True)
        return self._probe_crashed(everything, (0, task.items))

    def failed(self, task: Task, error: Exception) -> list[Task]:
        """``task`` raised what may pass. Raises :class:`JobFailed` when it did so too often."""
        if task.attempt >= ERROR_ATTEMPTS:
            raise JobFailed(f"shard {task.shard}: {type(error).__name__}: {error}") from None
        return [replace(task, attempt=task.attempt + 1)]

    def finished(self, task: Task) -> list[Task]:
        """``task`` came back."""
        if task.probe is None:
            self._suspects.pop(task.shard, None)
            return []
        return self._probed(task)

    def _probe_crashed(self, task: Task, places: tuple[int, int]) -> list[Task]:
        suspect = self._suspects[task.shard]
        low, high = places
        if high - low == 1:
            suspect.culprits.add(low)
            return self._probed(task)
        middle = (low + high) // 2
        suspect.pending += 1
        return [replace(task, probe=half) for half in ((low, middle), (middle, high))]

    def _probed(self, task: Task) -> list[Task]:
        suspect = self._suspects[task.shard]
        suspect.pending -= 1
        if suspect.pending:
            return []
        return [Task(task.shard, task.items, skip=frozenset(suspect.culprits), alone=True)]
