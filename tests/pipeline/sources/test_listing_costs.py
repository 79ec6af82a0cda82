"""What a listing asks of a store: nothing twice, and of a container not the images."""

from __future__ import annotations

import tarfile
import zipfile

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from pipeline.retry import Retrier
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from tests.pipeline.build import plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper
from tests.pipeline.test_run import statuses


@pytest.fixture
def store(monkeypatch):
    """A store in memory, and the calls that it is asked."""
    fs, calls = fsspec.filesystem("memory"), []
    fs.rm("/costs", recursive=True) if fs.exists("/costs") else None
    for name in ("info", "ls"):
        true = getattr(MemoryFileSystem, name)

        def counted(self, path, *args, _name=name, _true=true, **options):
            calls.append((_name, path))
            return _true(self, path, *args, **options)

        monkeypatch.setattr(MemoryFileSystem, name, counted)
    yield fs, calls
    fs.rm("/costs", recursive=True)


def test_a_folder_is_listed_and_no_file_asked_for_again(store):
    fs, calls = store
    for n in range(500):
        fs.pipe_file(f"/costs/{n:03d}.png", b"x" * n)
    calls.clear()
    assert [item.size for item in Source("memory://costs").items()] == list(range(500))
    assert [name for name, _ in calls] == ["info", "ls"]


def test_a_listing_that_does_not_tell_the_size_is_asked_again(store, monkeypatch):
    """As that of a web server's pages is."""
    store[0].pipe_file("/costs/a.png", b"xyz")
    told = MemoryFileSystem.ls

    def untold(self, path, detail=True, **options):
        return [entry | {"size": None} for entry in told(self, path, detail=True, **options)]

    monkeypatch.setattr(MemoryFileSystem, "ls", untold)
    assert [item.size for item in Source("memory://costs").items()] == [3]


def test_a_retry_asks_for_the_failed_inputs_alone(store, tmp_path):
    fs, calls = store
    files = make_images(tmp_path / "loose", 40, size=8)
    for file in files:
        fs.pipe_file(f"/costs/{file.name}", file.read_bytes())
    fs.pipe_file("/costs/broken.png", b"what")
    plan, encoder = plan_dataset("memory://costs", tmp_path / "ds", paper())
    run_shards(plan, encoder, tmp_path / "ds")
    fs.pipe_file("/costs/broken.png", files[0].read_bytes())
    folder, source = Folder.at(tmp_path / "ds"), Source("memory://costs")
    options = {"batch": 4, "threads": None, "wanted": frozenset({"unknown_format"})}
    calls.clear()
    run_shards(plan, Retrier(paper(), source, folder, FakeCodec(), **options), tmp_path / "ds", [0])
    assert sum(name == "info" and path.endswith(".png") for name, path in calls) == 1
    assert set(statuses(tmp_path / "ds").values()) == {"ok"}


class Remote(AbstractBufferedFile):
    """A file that is fetched in blocks of 50 MB, as s3fs does, unless asked otherwise."""

    DEFAULT_BLOCK_SIZE = 50 << 20
    fetched = 0

    def _fetch_range(self, start, end):
        Remote.fetched += end - start
        return self.fs.cat_file(self.path, start=start, end=end)


def opened(fs, path, mode="rb", block_size=None, autocommit=True, **options):
    return Remote(fs, path, mode, block_size or "default", size=fs.size(path), **options)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_listing_a_container_does_not_fetch_its_images(store, tmp_path, monkeypatch, kind):
    fs, _ = store
    big, count = bytes(3 << 20), 12
    (tmp_path / "big.png").write_bytes(big)
    path = tmp_path / f"a.{kind}"
    with tarfile.open(path, "w") if kind == "tar" else zipfile.ZipFile(path, "w") as archive:
        for n in range(count):
            (archive.add if kind == "tar" else archive.write)(tmp_path / "big.png", f"{n:02d}.png")
    fs.pipe_file(f"/costs/a.{kind}", path.read_bytes())
    monkeypatch.setattr(MemoryFileSystem, "_open", opened)
    Remote.fetched = 0
    source = Source("memory://costs")
    assert [item.size for item in source.items()] == [len(big)] * count
    print(f"fetched {Remote.fetched} of {path.stat().st_size} bytes")
    assert 0 < Remote.fetched < path.stat().st_size / 8
