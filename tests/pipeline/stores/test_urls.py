"""A URL means the same here, to a worker in another folder, and in a plan; secrets enter neither."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options

from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, PlanDiffers
from pipeline.inputs.originals import originals
from pipeline.run import compress, plan
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.stores.urls import full_url
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper
from tests.pipeline.test_run import statuses


class Hosted(MemoryFileSystem):
    """Takes its host from its URLs, as ftp, sftp and hdfs do, and keeps each host's files apart."""

    protocol = "hosted"
    cachable = False

    def __init__(self, host="", port=None, username="", password="", **options):
        super().__init__(**options)
        self.store, self.pseudo_dirs = Hosted.hosts.setdefault((host, port, username), ({}, [""]))

    hosts: ClassVar[dict] = {}

    @classmethod
    def _strip_protocol(cls, path):
        path = infer_storage_options(path)["path"] if "://" in path else path
        return "/" + path.strip("/") if path.strip("/") else ""

    @staticmethod
    def _get_kwargs_from_urls(url):
        found = infer_storage_options(url)
        return {name: value for name, value in found.items() if name not in ("path", "protocol")}


@pytest.fixture
def hosted(monkeypatch):
    fsspec.register_implementation("hosted", Hosted, clobber=True)
    monkeypatch.setattr(Hosted, "hosts", {})


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Two zips of four images each, neither named so; and the folder that the process is in."""
    for name in ("a", "b"):
        files = make_images(tmp_path / name, 4, size=8)
        with zipfile.ZipFile(tmp_path / f"{name}.bin", "w") as archive:
            for file in files:
                archive.write(file, f"in/{file.name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def elsewhere(source: Source, monkeypatch) -> Source:
    """The source as a worker in another folder has it."""
    sent = pickle.dumps(source)
    monkeypatch.chdir("/")
    return pickle.loads(sent)


@pytest.mark.parametrize(
    "url", ["zip://::a.bin", "zip://in::a.bin", "zip://in/*.png::a.bin", "zip://::file://{}/a.bin"]
)
def test_an_archive_s_chain_goes_to_the_workers(archives, monkeypatch, url):
    source = Source(url.format(archives))
    items = list(source.items())
    assert len(items) == 4
    assert source.full_url == url.format(archives).split("::")[0] + f"::{archives}/a.bin"
    there = elsewhere(source, monkeypatch)
    assert list(there.items()) == items
    assert [there.read(item) for item in items] == [f.read_bytes() for f in sorted((archives / "a").iterdir())]
    assert there.full_url == source.full_url
    assert there.name(items[1]) == f"zip://in/img0001.png::{archives}/a.bin"


def test_a_chained_archive_has_a_whole_life(archives, tmp_path, monkeypatch):
    made = make_dataset("zip://::a.bin", tmp_path / "ds")
    assert made.source == f"zip://::{archives}/a.bin"
    assert set(statuses(tmp_path / "ds").values()) == {"ok"}
    monkeypatch.chdir("/")
    rows = Dataset.open(str(tmp_path / "ds")).arrow().to_table().to_pylist()
    assert all(not isinstance(found, str) for found in originals(rows).values())


def test_another_archive_is_another_source(archives, tmp_path):
    plan("zip://::a.bin", str(tmp_path / "ds"), paper(), codec=FakeCodec())
    with pytest.raises(PlanDiffers, match=r"zip://::.*/a.bin planned, zip://::.*/b.bin given"):
        compress("zip://::b.bin", str(tmp_path / "ds"), paper(), codec=FakeCodec(), resume=True)


def test_a_cache_in_between_keeps_the_path_behind_it(archives, monkeypatch):
    shutil.move(archives / "a", archives / "photos.of.a")
    for url in ("simplecache::photos.of.a", "simplecache::zip://in::a.bin"):
        source = Source(url)
        items = list(source.items())
        assert len(items) == 4
        there = elsewhere(source, monkeypatch)
        assert [item.id for item in there.items()] == [item.id for item in items]
        named = there.name(items[2])
        fs, path = fsspec.core.url_to_fs(named)
        assert fs.cat_file(path) == source.read(items[2])
        monkeypatch.chdir(archives)


def test_hosts_go_to_the_workers(hosted, monkeypatch):
    for host in ("one", "two"):
        fs, path = fsspec.core.url_to_fs(f"hosted://{host}:21/data/x")
        fs.pipe_file(f"{path}/1.png", host.encode())
    for host in ("one", "two"):
        source = Source(f"hosted://{host}:21/data/x/")
        there = elsewhere(source, monkeypatch)
        assert there.full_url == source.full_url == f"hosted://{host}:21/data/x"
        (item,) = there.items()
        assert there.read(item) == host.encode()
        assert there.name(item) == f"hosted://{host}:21/data/x/1.png"
        folder = pickle.loads(pickle.dumps(Folder.at(f"hosted://{host}:21/data/x")))
        assert folder.read("1.png") == host.encode()
    root = Source("hosted://one:21")
    assert root.full_url == "hosted://one:21/"
    assert [pickle.loads(pickle.dumps(root)).name(item) for item in root.items()] == ["hosted://one:21/data/x/1.png"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hosted://me:secret@one/data", "FSSPEC_HOSTED_PASSWORD"),
        ("zip://::hosted://me:secret@one/data/a.zip", "FSSPEC_HOSTED_PASSWORD"),
        ("https://me:secret@example.org/a.tar", "netrc"),
    ],
)
def test_passwords_enter_no_plan(hosted, tmp_path, url, said):
    for use in (lambda: plan(url, str(tmp_path / "ds"), paper(), codec=FakeCodec()), lambda: Folder.at(url)):
        with pytest.raises(BadRequest, match=said) as caught:
            use()
        assert "secret" not in str(caught.value)


def test_a_user_is_no_secret_and_an_at_no_user(hosted, tmp_path):
    assert Source("hosted://me@one/data").full_url == "hosted://me@one/data"
    (tmp_path / "a@b:c").mkdir()
    assert Source(str(tmp_path / "a@b:c")).full_url == f"file://{tmp_path}/a@b:c"


@pytest.mark.parametrize("url", ["/data/x", "file:///data/x", "memory://data/x", "s3://data/x", "s3://data/x/*.png"])
def test_plain_urls_are_in_plans_as_they_always_were(url):
    fs, path = fsspec.core.url_to_fs(url)
    assert full_url(url, fs, path) == fs.unstrip_protocol(path)


@pytest.mark.parametrize(
    ("url", "root", "expected"),
    [
        ("ftp://host/data/x", "/data/x", "ftp://host/data/x/1.png"),
        ("ftp://me@host:21/data", "/data", "ftp://me@host:21/data/1.png"),
        ("hdfs://nn:8020/x", "/x", "hdfs://nn:8020/x/1.png"),
        ("github://org:repo@main/x", "x", "github://org:repo@main/x/1.png"),
    ],
)
def test_urls_of_stores_that_are_not_here(url, root, expected):
    kind = fsspec.get_filesystem_class(url.split("://")[0])
    assert kind._strip_protocol(url) == root
    assert full_url(url, kind, root) == url
    assert full_url(url, kind, root, f"{root}/1.png") == expected
