"""A worker with two shards in flight: the device is never held by reading or writing."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from pipeline.dataset.plan import ItemsFile
from pipeline.errors import JobFailed
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.workers import actors
from pipeline.workers.driver import _describe
from tests.pipeline.build import plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec

SECONDS = 20


@pytest.fixture
def begun(tmp_path):
    """A frozen plan over 16 images, its encoder, and a function that runs two shards of it at once."""
    make_images(tmp_path / "src", 16)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")

    def both():
        threads = [threading.Thread(target=run_shards, args=(plan, encoder, tmp_path / "ds", [s])) for s in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)

    items = ItemsFile(Folder.at(tmp_path / "ds"), plan)
    return SimpleNamespace(both=both, inputs={item.id for s in (0, 1) for item in items.shard(s)})


def test_a_shard_is_encoded_while_another_is_uploaded(begun, monkeypatch):
    """The first shard's upload does not end before the other comes to its own."""
    met, commit = threading.Barrier(2), actors.commit

    def slow(*args, **options):
        met.wait(SECONDS)
        return commit(*args, **options)

    monkeypatch.setattr(actors, "commit", slow)
    begun.both()
    assert not met.broken


def test_a_shard_is_read_while_another_is_encoded(begun, monkeypatch):
    """The first encoding does not end before the inputs of both shards are read."""
    read, both_read, encoding = set(), threading.Event(), threading.Lock()
    source_read, encode = Source.read, FakeCodec.encode
    beside = []

    def noted(self, item):
        read.add(item.id)
        if read >= begun.inputs:
            both_read.set()
        return source_read(self, item)

    def slow(self, images, request, prior):
        beside.append(encoding.acquire(blocking=False))
        assert both_read.wait(SECONDS)
        encoded = encode(self, images, request, prior)
        encoding.release()
        return encoded

    monkeypatch.setattr(Source, "read", noted)
    monkeypatch.setattr(FakeCodec, "encode", slow)
    begun.both()
    assert both_read.is_set()
    assert all(beside)
    assert len(beside) >= 2


def test_waiting_for_a_first_worker_can_be_stopped():
    ray = SimpleNamespace(wait=lambda refs, timeout: ([], refs))
    actor = SimpleNamespace(describe=SimpleNamespace(remote=object))
    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        _describe(ray, actor, lambda: next(asked))


def test_a_first_worker_that_ends_is_told():
    class Ended(Exception):
        pass

    def get(ref):
        raise Ended("out of memory\nlong story")

    ray = SimpleNamespace(
        wait=lambda refs, timeout: (refs, []),
        get=get,
        exceptions=SimpleNamespace(RayTaskError=KeyError, RayActorError=Ended),
    )
    actor = SimpleNamespace(describe=SimpleNamespace(remote=object))
    with pytest.raises(JobFailed, match=r"out of memory$"):
        _describe(ray, actor, lambda: False)
