"""The driver's loop against a Ray that is no Ray: workers with two calls at a time, any of which may end them."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import JobFailed, Unfit
from pipeline.workers.attempts import Task
from pipeline.workers.dispatch import Dispatcher

ITEMS = 5


class TaskError(Exception):
    def __init__(self, cause):
        self.cause = cause


class ActorError(Exception):
    pass


class Worker:
    """Dies when any of its running calls has an input in ``deadly``, whichever is asked for."""

    def __init__(self, ray):
        self.ray, self.alive, self.running = ray, True, []
        self.describe = SimpleNamespace(remote=lambda: SimpleNamespace(worker=self, task=None))

    def call(self, task):
        ref = SimpleNamespace(worker=self, task=task)
        self.running.append(ref)
        assert len(self.running) == 1 or not any(r.task.alone for r in self.running)
        assert len(self.running) <= 2
        self.ray.calls += 1
        return ref


class FakeRay:
    exceptions = SimpleNamespace(RayTaskError=TaskError, RayActorError=ActorError, RaySystemError=ActorError)

    def __init__(self, deadly, seed, never_start=()):
        self.deadly, self.random, self.calls = deadly, random.Random(seed), 0
        self.workers, self.never_start = [], never_start

    def start(self):
        self.workers.append(Worker(self))
        return self.workers[-1]

    def wait(self, refs, *, num_returns, timeout):
        able = [r for r in refs if r.task is not None or self.workers.index(r.worker) not in self.never_start]
        return ([self.random.choice(able)], []) if able else ([], [])

    def get(self, ref):
        worker = ref.worker
        if any(self._kills(r.task) for r in worker.running):
            worker.alive = False
        if not worker.alive:
            raise ActorError("it is gone")
        if ref.task is None:
            return "fit"
        worker.running.remove(ref)
        return ref.task

    def kill(self, worker, no_restart):
        worker.alive = False

    def _kills(self, task):
        low, high = task.probe or (0, task.items)
        return any((task.shard, place) in self.deadly for place in range(low, high) if place not in task.skip)


def drive(ray, shards, workers=2):
    dispatcher = Dispatcher(
        ray, ray.start, workers, check=lambda said: None, call=lambda w, task: w.call(task), stop=lambda: False
    )
    results = list(dispatcher.run(Task(shard, ITEMS) for shard in range(shards)))
    return {task.shard: task for task, _ in results if task.probe is None}


@settings(deadline=None, max_examples=150)
@given(
    deadly=st.sets(st.tuples(st.integers(0, 7), st.integers(0, ITEMS - 1)), max_size=5),
    seed=st.integers(0, 99),
    workers=st.integers(1, 3),
)
def test_exactly_the_inputs_that_kill_are_left_out(deadly, seed, workers):
    ray = FakeRay(deadly, seed)
    done = drive(ray, 8, workers)
    assert done.keys() == set(range(8))
    for shard, task in done.items():
        assert task.skip == {place for where, place in deadly if where == shard}
    assert ray.calls <= 8 + 30 * len(deadly)
    assert not any(worker.alive for worker in ray.workers)


def test_a_worker_that_never_finds_a_place_does_not_hold_up_the_end():
    ray = FakeRay(set(), 0, never_start={1})
    assert len(drive(ray, 6)) == 6


def test_workers_that_end_while_they_start_end_the_job():
    ray = FakeRay(set(), 0)
    ray.get = lambda ref: (_ for _ in ()).throw(ActorError("no room"))
    with pytest.raises(JobFailed, match="ends while it starts: no room"):
        drive(ray, 2, workers=1)


def test_what_does_not_pass_is_told_and_what_may_pass_is_tried_again(monkeypatch):
    monkeypatch.setattr("pipeline.workers.dispatch._POLL", 0)
    for cause, calls in ((OSError("disk full"), 3), (PermissionError("no"), 1)):
        ray = FakeRay(set(), 0)
        get = ray.get

        def failing(ref, get=get, cause=cause):
            if ref.task is not None:
                ref.worker.running.remove(ref)
                raise TaskError(cause)
            return get(ref)

        ray.get = failing
        with pytest.raises(JobFailed, match=str(cause)):
            drive(ray, 1, workers=1)
        assert ray.calls == calls


class SickRay(FakeRay):
    """Workers of these numbers raise :class:`Unfit` at their second task and ever after."""

    def __init__(self, sick):
        super().__init__(deadly=(), seed=1)
        self.sick, self.done = sick, {}

    def get(self, ref):
        number = self.workers.index(ref.worker)
        if ref.task is not None and number in self.sick and self.done.get(number):
            raise TaskError(Unfit("the device fails"))
        if ref.task is not None:
            self.done[number] = True
        return super().get(ref)


def test_an_unfit_worker_is_replaced_and_its_tasks_are_done_by_others():
    done = drive(SickRay(sick={0, 1, 3}), shards=20)
    assert done.keys() == set(range(20))
    assert all(task.attempt == 1 and not task.skip for task in done.values())


def test_a_place_where_every_worker_is_unfit_ends_the_job():
    class Hopeless(SickRay):
        def get(self, ref):
            if ref.task is not None:
                raise TaskError(Unfit("the device fails"))
            return super().get(ref)

    with pytest.raises(Unfit, match="the device fails"):
        drive(Hopeless(sick=set()), shards=20)
