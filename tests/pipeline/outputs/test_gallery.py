"""Which images a gallery takes, at which tiers, and beside which originals."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.dataset.reader import Dataset
from pipeline.errors import SourceNotFound
from pipeline.inputs.images import read_image
from pipeline.inputs.originals import originals
from pipeline.outputs.gallery import gallery
from pipeline.rates import truncate
from pipeline.sources import parquet
from psc_core.errors import CorruptStream, PriorNotFound
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("gallery")
    make_images(root / "src", 40)
    (root / "src" / "bad.png").write_bytes(b"x")
    make_dataset(root / "src", root / "ds")
    return root / "ds"


def shown(dataset, images, **options):
    return gallery(Dataset.open(str(dataset)), images, codec=FakeCodec(), **options).shown


def test_images_are_spread_over_the_dataset_the_same_every_time(dataset):
    assert [one.image_id for one in shown(dataset, 4)] == [f"img{n:04d}.png" for n in (5, 15, 25, 35)]
    assert [one.image_id for one in shown(dataset, 4)] == [f"img{n:04d}.png" for n in (5, 15, 25, 35)]
    assert len({one.image_id for one in shown(dataset, 40)}) == 40
    assert len(shown(dataset, 99)) == 40


def test_of_a_stretch_the_image_with_the_fewest_canvases_is_taken(tmp_path):
    for number in range(6):
        side = 16 if number in (1, 5) else 300
        make_images(tmp_path / "one", 1, size=side, seed=number)
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "one" / "img0000.png").rename(tmp_path / "src" / f"{number}.png")
    # In one part, so that there is a choice.
    from pipeline.dataset import plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MIN_SHARDS", 1)
        make_dataset(tmp_path / "src", tmp_path / "ds")
    assert [one.image_id for one in shown(tmp_path / "ds", 2)] == ["1.png", "5.png"]


def test_every_tier_with_its_rate_and_its_quality(dataset):
    done = []
    (one,) = shown(dataset, 1, progress=lambda *at: done.append(at))
    assert [f.tier for f in one.frames] == [0, 1, 2, 3]
    # The stand-in's pictures are flat, of the number of tiers that it was given.
    assert [int(f.pixels[0, 0, 0]) for f in one.frames] == [1, 2, 3, 4]
    row = next(r for r in Dataset.open(str(dataset)).arrow().to_table().to_pylist() if r["image_id"] == one.image_id)
    assert one.frames[-1].bytes == row["bytes"]
    assert one.frames[-1].bpp == pytest.approx(row["bpp"])
    assert [f.bytes for f in one.frames] == sorted(f.bytes for f in one.frames)
    error = np.mean((one.original.astype(float) - 4) ** 2)
    assert one.frames[-1].psnr == pytest.approx(10 * np.log10(255**2 / error))
    assert one.frames[-1].measured
    assert done[-1] == (4, 4)


def test_no_picture_loads_no_prior(dataset):
    codec = FakeCodec(load_error=PriorNotFound("no prior"))
    assert gallery(Dataset.open(str(dataset)), 0, codec=codec).shown == []
    with pytest.raises(PriorNotFound, match="--images 0"):
        gallery(Dataset.open(str(dataset)), 1, codec=codec)


def test_a_stream_that_does_not_decode_says_so(dataset):
    class Broken(FakeCodec):
        def decode(self, streams, prior, *, tier, restore):
            if any(len(s.tiers) == 2 for s in streams):
                raise CorruptStream("bytes were changed")
            return super().decode(streams, prior, tier=tier, restore=restore)

    (one,) = gallery(Dataset.open(str(dataset)), 1, codec=Broken()).shown
    assert [f.pixels is None for f in one.frames] == [False, True, True, True]
    assert all("bytes were changed" in f.error for f in one.frames[1:])


def test_calls_are_counted(dataset):
    prior = SimpleNamespace(nfe=7)

    class Counting(FakeCodec):
        def load(self, request, threads=None):
            return prior

        def decode(self, streams, loaded, *, tier, restore):
            loaded.nfe += 10 * len(streams)
            return super().decode(streams, loaded, tier=tier, restore=restore)

    assert gallery(Dataset.open(str(dataset)), 2, codec=Counting()).nfe == 80


def test_originals_are_known_by_their_hash(tmp_path):
    make_images(tmp_path / "src", 3)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    rows = [r for r in Dataset.open(str(tmp_path / "ds")).arrow().to_table().to_pylist() if r["status"] == "ok"]
    there = originals(rows)
    for row in rows:
        assert np.array_equal(there[row["image_id"]], read_image((tmp_path / "src" / row["image_id"]).read_bytes())[0])
    Image.new("RGB", (9, 9)).save(tmp_path / "src" / "img0000.png")
    (tmp_path / "src" / "img0001.png").unlink()
    for source in (None, str(tmp_path / "src")):
        there = originals(rows, source)
        assert "at hand" in there["img0001.png"]
        assert isinstance(there["img0000.png"], str)
        assert isinstance(there["img0002.png"], np.ndarray)
    assert "another file" in originals(rows, str(tmp_path / "src"))["img0000.png"]
    make_images(tmp_path / "others", 1)
    assert "at hand" in originals(rows, str(tmp_path / "others"))["img0002.png"]
    with pytest.raises(SourceNotFound):
        originals(rows, str(tmp_path / "gone"))


def test_a_source_out_of_reach_is_tried_once(tmp_path, monkeypatch):
    tried = []

    def refused(url):
        tried.append(url)
        raise ValueError(f"protocol not known: {url}")

    monkeypatch.setattr("pipeline.inputs.originals.open_fs", refused)
    names = [f"{n}.png" for n in range(5)]
    rows = [{"image_id": name, "source": f"gopher://far/{name}", "sha256": "", "source_bytes": 1} for name in names]
    assert all("at hand" in said for said in originals(rows).values())
    assert len(tried) == 1


def test_originals_are_reduced_as_they_were(tmp_path):
    make_images(tmp_path / "src", 2, size=64)
    make_dataset(tmp_path / "src", tmp_path / "ds", paper(size=20))
    rows = Dataset.open(str(tmp_path / "ds")).arrow().to_table().to_pylist()
    for row in rows:
        expected, _ = read_image((tmp_path / "src" / row["image_id"]).read_bytes(), size=20)
        assert np.array_equal(originals([row])[row["image_id"]], expected)


@pytest.mark.parametrize("container", ["tar", "zip", "parquet"])
def test_originals_in_containers_also_after_truncating(tmp_path, container):
    (tmp_path / "src").mkdir()
    files = make_images(tmp_path / "loose", 4)
    path = tmp_path / "src" / f"a#b.{container}"
    if container == "tar":
        with tarfile.open(path, "w") as tar:
            [tar.add(file, file.name) for file in files]
    elif container == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            [archive.write(file, file.name) for file in files]
    else:
        pq.write_table(pa.table({"image": [file.read_bytes() for file in files]}), path)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    truncate(str(tmp_path / "ds"), str(tmp_path / "small"), tier=1)
    recorded = shown(tmp_path / "small", 4)
    assert [len(one.frames) for one in recorded] == [2] * 4
    shutil.move(tmp_path / "src", tmp_path / "moved")
    given = shown(tmp_path / "small", 4, source=str(tmp_path / "moved"))
    for one, file, other in zip(recorded, files, given, strict=True):
        assert np.array_equal(one.original, read_image(file.read_bytes())[0])
        assert np.array_equal(one.original, other.original)
    parquet._column_of_group.cache_clear()
    assert all(isinstance(one.original, str) for one in shown(tmp_path / "small", 4))
