from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import SourceNotFound
from pipeline.sources import Source


def ids(url) -> list[str]:
    return [item.id for item in Source(str(url)).items()]


def contents(url) -> dict[str, bytes]:
    source = Source(str(url))
    return {item.id: source.read(item) for item in source.items()}


@pytest.fixture
def tree(tmp_path):
    for name in (
        "b.png",
        "a/z.jpg",
        "a.jpg",
        "a-b/c.jpg",
        "a/b/c.webp",
        ".hidden.png",
        ".git/x.png",
        "notes.txt",
    ):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "src"


def test_a_folder_is_listed_in_the_order_of_ids(tree):
    found = ids(tree)
    assert found == sorted(found)
    assert set(found) == {"b.png", "a/z.jpg", "a.jpg", "a-b/c.jpg", "a/b/c.webp"}
    assert contents(tree)["a/z.jpg"] == b"a/z.jpg"


def test_items_carry_size_and_version(tree):
    item = next(i for i in Source(str(tree)).items() if i.id == "b.png")
    assert item.size == 5
    assert float(item.version) == pytest.approx(os.stat(tree / "b.png").st_mtime)


def test_one_file_and_a_glob(tree):
    assert ids(tree / "b.png") == ["b.png"]
    assert ids(f"{tree}/*.jpg") == ["a.jpg"]
    assert ids(f"{tree}/**/*.jpg") == ["a-b/c.jpg", "a.jpg", "a/z.jpg"]


@pytest.mark.parametrize("name", ["nothing", "nothing/*.png", "b.png/under"])
def test_a_missing_source_is_refused(tree, name):
    with pytest.raises(SourceNotFound):
        ids(tree / name)


def test_a_memory_file_system(tree):
    fs = fsspec.filesystem("memory")
    for name in ("pics/x/2.png", "pics/1.png"):
        fs.pipe_file(f"/{name}", name.encode())
    assert contents("memory://pics") == {"1.png": b"pics/1.png", "x/2.png": b"pics/x/2.png"}


def test_it_pickles_with_an_absolute_url(tree, monkeypatch):
    monkeypatch.chdir(tree)
    there = pickle.dumps(Source("a"))
    monkeypatch.chdir("/")
    source = pickle.loads(there)
    assert [i.id for i in source.items()] == ["b/c.webp", "z.jpg"]


def test_names_that_are_no_text_can_be_read(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(odd, "wb") as file:
        file.write(b"x")
    assert contents(tmp_path) == {"caf\\xe9.png": b"x"}


def test_links_and_pipes(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    source = Source(str(tmp_path))
    items = list(source.items())
    assert [i.id for i in items] == ["gone.png", "pipe.png"]
    with pytest.raises(FileNotFoundError):
        source.read(items[0])
    with pytest.raises(OSError, match="not a regular file"):
        source.read(items[1])


def test_a_tar_with_sidecars_and_repeated_names(tmp_path):
    with tarfile.open(tmp_path / "w.tar", "w") as tar:
        for name, data in (
            ("2.jpg", b"two"),
            ("2.json", b"{}"),
            ("1.jpg", b"one"),
            ("2.jpg", b"again"),
            ("e.png", b""),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    expected = {"w.tar/1.jpg": b"one", "w.tar/2.jpg": b"two", "w.tar/2.jpg#2": b"again", "w.tar/e.png": b""}
    assert contents(tmp_path) == expected
    assert contents(tmp_path / "w.tar") == expected


def test_a_compressed_tar_is_refused_with_advice(tmp_path):
    with tarfile.open(tmp_path / "w.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.png"))
    with pytest.raises(SourceNotFound, match="unpack it first"):
        ids(tmp_path / "w.tar")


def test_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/2.png", b"two" * 100)
        archive.writestr("a/1.png", b"one")
        archive.writestr("readme.md", b"no")
    assert contents(tmp_path) == {"z.zip/a/1.png": b"one", "z.zip/b/2.png": b"two" * 100}


@pytest.mark.parametrize("nested", [True, False])
def test_parquet_with_an_image_column(tmp_path, nested):
    values = [b"one", None, b"three"]
    column = [{"bytes": v, "path": "x"} for v in values] if nested else values
    pq.write_table(pa.table({"label": [1, 2, 3], "image": column}), tmp_path / "p.parquet", row_group_size=2)
    assert list(contents(tmp_path).values()) == [b"one", b"", b"three"]
    assert ids(tmp_path) == [f"p.parquet/{n:09d}" for n in range(3)]


def test_parquet_without_an_image_column_is_refused(tmp_path):
    pq.write_table(pa.table({"label": [1]}), tmp_path / "p.parquet")
    with pytest.raises(SourceNotFound, match="no image column"):
        ids(tmp_path / "p.parquet")
