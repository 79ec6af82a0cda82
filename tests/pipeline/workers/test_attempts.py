from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobFailed
from pipeline.workers.attempts import Attempts, Task


def run(count: int, kills) -> tuple[Task | None, int]:
    """Drive one shard to its end; ``kills(task, places)`` says whether a call ends its process."""
    attempts, calls = Attempts(), 0
    waiting = [Task(0, count)]
    while waiting:
        task = waiting.pop()
        calls += 1
        assert calls < 500
        places = set(range(*task.probe) if task.probe else range(count)) - task.skip
        if kills(task, places):
            waiting += attempts.crashed(task)
            continue
        waiting += attempts.finished(task)
        if task.probe is None:
            return task, calls
    return None, calls


@given(count=st.integers(1, 40), draw=st.data())
def test_exactly_the_culprits_are_skipped(count, draw):
    culprits = draw.draw(st.sets(st.integers(0, count - 1), max_size=4))
    task, calls = run(count, lambda task, places: bool(places & culprits))
    assert task is not None
    assert task.skip == culprits
    assert calls <= 4 + len(culprits) * 14


def test_a_crash_that_passes_costs_one_more_attempt():
    seen = []

    def kills(task, places):
        seen.append(task.attempt)
        return len(seen) < 3

    task, _ = run(10, kills)
    assert task is not None
    assert task.skip == frozenset()
    assert seen == [1, 2, 3]


def test_a_shard_that_crashes_as_a_whole_is_given_up():
    with pytest.raises(JobFailed, match="none of its inputs does alone"):
        run(8, lambda task, places: len(places) == 8)


def test_errors_are_repeated_and_then_told():
    attempts = Attempts()
    task = Task(3, 5)
    for _ in range(2):
        (task,) = attempts.failed(task, OSError("disk full"))
    with pytest.raises(JobFailed, match="disk full"):
        attempts.failed(task, OSError("disk full"))
