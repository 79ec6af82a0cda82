"""A container that is odd or damaged is one row with a reason, and takes nothing else along."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.console import left_out as said_of
from pipeline.dataset.reader import Dataset
from pipeline.errors import CannotUnpack, InputChanged, SourceNotFound
from pipeline.inputs.conditions import conditioned
from pipeline.run import compress, plan
from pipeline.sources import UNOPENED, Source
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper
from tests.pipeline.test_run import statuses


def tar_of(files, path):
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)


@pytest.fixture
def files(tmp_path):
    return make_images(tmp_path / "loose", 6)


@pytest.fixture
def folder(tmp_path, files):
    """Images beside captions and every kind of container that cannot be opened."""
    folder = tmp_path / "src"
    folder.mkdir()
    shutil.copy(files[0], folder / "one.png")
    pq.write_table(pa.table({"file_name": ["one.png"], "text": ["a"]}), folder / "metadata.parquet")
    (folder / "broken.zip").write_bytes(b"PK no zip")
    (folder / "broken.parquet").write_bytes(b"PAR1 no PAR1")
    with tarfile.open(folder / "packed.tar", "w:gz") as tar:
        tar.add(files[1], "x.png")
    (folder / "gone.tar").symlink_to(tmp_path / "nowhere")
    tar_of(files[:3], folder / "whole.tar")
    return folder


def test_odd_containers_are_rows_and_the_rest_is_compressed(folder, tmp_path):
    made = make_dataset(folder, tmp_path / "ds")
    assert statuses(tmp_path / "ds") == {
        "broken.parquet": "cannot_unpack",
        "broken.zip": "cannot_unpack",
        "gone.tar": "not_found",
        "one.png": "ok",
        "packed.tar": "cannot_unpack",
        **{f"whole.tar/img000{n}.png": "ok" for n in range(3)},
    }
    rows = Dataset.open(str(tmp_path / "ds")).arrow().to_table().to_pylist()
    row = next(row for row in rows if row["image_id"] == "packed.tar")
    assert "unpack it first" in row["error"]
    assert row["attempts"] == 1
    assert row["source"].endswith("/packed.tar")
    assert made.items == 8


def test_parquet_without_images_is_left_out_and_said_to_be(folder, tmp_path):
    found = plan(str(folder), str(tmp_path / "ds"), paper(), codec=FakeCodec())
    assert (found.left_out, found.left_out_first) == (1, "metadata.parquet")
    assert said_of(found) == ["left out: 1 Parquet file without images (metadata.parquet)"]
    pq.write_table(pa.table({"text": ["a"]}), folder / "more.parquet")
    found = plan(str(folder), str(tmp_path / "other"), paper(), codec=FakeCodec(), dry_run=True)
    assert said_of(found) == ["left out: 2 Parquet files without images (metadata.parquet and others)"]


def test_a_folder_of_captions_alone_is_refused_with_the_reason(tmp_path):
    (tmp_path / "src").mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "src" / "metadata.parquet")
    with pytest.raises(SourceNotFound, match=r"no file that could be an image; metadata.parquet has no image column"):
        plan(str(tmp_path / "src"), str(tmp_path / "ds"), paper(), codec=FakeCodec())


@pytest.mark.parametrize("name", ["broken.zip", "broken.parquet", "packed.tar", "metadata.parquet", "gone.tar"])
def test_one_that_is_the_whole_source_is_refused(folder, tmp_path, name):
    with pytest.raises(SourceNotFound, match=r"no such file|no image column|not a|unpack it first"):
        compress(str(folder / name), str(tmp_path / "ds"), paper(), codec=FakeCodec())
    assert not (tmp_path / "ds").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_one_that_may_not_be_read(folder, tmp_path):
    (folder / "whole.tar").chmod(0)
    make_dataset(folder, tmp_path / "ds")
    assert statuses(tmp_path / "ds")["whole.tar"] == "permission_denied"


def test_one_that_is_mended_is_not_read_as_an_image(folder, files):
    source = Source(str(folder))
    item = next(item for item in source.items() if item.id == "packed.tar")
    with pytest.raises(CannotUnpack, match="unpack it first"):
        source.read(item)
    tar_of(files, folder / "packed.tar")
    with pytest.raises(InputChanged, match="can be opened now"):
        source.read(item)


def cut_off(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def overwritten(raw: bytes) -> bytes:
    """The header of the fourth file is none."""
    at = raw.index(b"img0003.png")
    return raw[:at] + b"\xff" * 512 + raw[at + 512 :]


@pytest.mark.parametrize("damage", [cut_off, overwritten])
def test_what_is_before_the_damage_of_a_tar_is_kept(tmp_path, files, damage):
    path = tmp_path / "src" / "a.tar"
    path.parent.mkdir()
    tar_of(files, path)
    path.write_bytes(damage(path.read_bytes()))
    for url in (path.parent, path):
        items = list(Source(str(url)).items())
        assert (items[0].id, items[0].inner) == ("a.tar", UNOPENED)
        assert [item.id for item in items[1:4]] == [f"a.tar/img000{n}.png" for n in range(3)]
        with pytest.raises(CannotUnpack, match="damaged after"):
            Source(str(url)).read(items[0])
    made = make_dataset(path.parent, tmp_path / "ds")
    found = statuses(tmp_path / "ds")
    assert len(found) == made.items
    assert [found[f"a.tar/img000{n}.png"] for n in range(3)] == ["ok"] * 3


def test_every_way_to_cut_a_tar_loses_nothing_silently(tmp_path, files):
    tar_of(files[:2], tmp_path / "a.tar")
    whole = (tmp_path / "a.tar").read_bytes()
    source = Source(str(tmp_path))
    # A cut between two blocks may be where a tar ends that has no mark of its end.
    for size in (size for size in range(600, len(whole.rstrip(b"\0")), 97) if size % 512):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        found = list(source.items())
        short = any(len(source.read(item)) < item.size for item in found if item.inner != UNOPENED)
        assert short or found[0].inner == UNOPENED, size


def test_conditions_beside_images_pass_what_cannot_be_opened(folder, files):
    with tarfile.open(folder / "whole.tar", "w") as tar:
        for name, data in (("1.png", files[0].read_bytes()), ("1.txt", b"a cat"), ("2.png", files[1].read_bytes())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder / "one.png").unlink()
    found = {item.id: item.condition for item in conditioned(Source(str(folder)), captions="txt")}
    assert found["whole.tar/1.png"] == "a cat"
    assert found["packed.tar"] is None


def test_a_zip_of_nonsense_never_refuses_its_neighbours(tmp_path, files):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        archive.write(files[0], "a.png")
    raw = (tmp_path / "good.zip").read_bytes()
    start = raw.index(b"PK\1\2")
    for place in range(start, len(raw)):
        (tmp_path / "bad.zip").write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        source = Source(str(tmp_path))
        items = [item for item in source.items() if item.id.startswith("good.zip")]
        assert [source.read(item) for item in items] == [files[0].read_bytes()]
