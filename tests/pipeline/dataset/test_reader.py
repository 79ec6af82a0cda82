"""What is done with a finished dataset: decompress, export, verify, query, status, info."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import psc_core
from pipeline.audit import verify
from pipeline.dataset.catalog import info, query, status
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, NotADataset, UnknownIds
from pipeline.export import export
from pipeline.restore import decompress
from psc_core.errors import CorruptStream, TierOutOfRange, WrongPrior
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    make_images(root / "src" / "a", 10)
    make_images(root / "src" / "b", 3)
    (root / "src" / "broken.jpg").write_bytes(b"no")
    make_dataset(root / "src", root / "ds")
    return str(root / "ds")


@pytest.mark.parametrize("tier", [None, 0, 2])
def test_decompress_all(dataset, tmp_path, tier):
    result = decompress(dataset, str(tmp_path), tier=tier, codec=FakeCodec(), batch=3)
    assert (result.written, result.failed, result.exit_code) == (13, [], 0)
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert names[0] == "a/img0000.png"
    assert len(names) == 13
    # The stand-in decodes to the number of tiers that it was given.
    assert (np.asarray(Image.open(tmp_path / names[0])) == (4 if tier is None else tier + 1)).all()


def test_decompress_some_as_jpeg_at_a_rate(dataset, tmp_path):
    ids = ["b/img0001.png", "a/img0002.png"]
    result = decompress(dataset, str(tmp_path), bpp=0.4, ids=ids, format="jpg", codec=FakeCodec())
    assert result.written == 2
    image = Image.open(tmp_path / "b" / "img0001.jpg")
    assert image.mode == "L"
    assert 0 < np.asarray(image)[0, 0] < 4


def test_one_image_that_does_not_decode_is_told_and_the_others_written(dataset, tmp_path):
    class Picky(FakeCodec):
        def decode(self, streams, prior, *, tier, restore):
            if any(s.width == 26 for s in streams):
                raise CorruptStream("bad one")
            return super().decode(streams, prior, tier=tier, restore=restore)

    result = decompress(dataset, str(tmp_path), codec=Picky())
    assert result.exit_code == 1
    assert {f["code"] for f in result.failed} == {"corrupt_stream"}
    assert result.written + len(result.failed) == 13
    assert result.written > 8


def test_the_wrong_prior_ends_the_job(dataset, tmp_path):
    class Wrong(FakeCodec):
        def decode(self, streams, prior, *, tier, restore):
            raise WrongPrior("encoded with another prior")

    with pytest.raises(WrongPrior):
        decompress(dataset, str(tmp_path / "out"), codec=Wrong())
    assert not (tmp_path / "out").exists()


def test_wrong_use_of_decompress(dataset, tmp_path):
    out = tmp_path / "out"
    for error, arguments in [
        (TierOutOfRange, {"tier": 4}),
        (TierOutOfRange, {"tier": -1}),
        (BadRequest, {"tier": 0, "bpp": 1.0}),
        (BadRequest, {"bpp": -1.0}),
        (BadRequest, {"restore": "magic"}),
        (BadRequest, {"format": "bmp"}),
        (UnknownIds, {"ids": ["nobody"]}),
        (UnknownIds, {"ids": ["broken.jpg"]}),
        (NotADataset, {"source": str(tmp_path)}),
        (NotADataset, {"source": str(tmp_path / "missing")}),
        (psc_core.PscError, {"source": f"{dataset}/part-00000.parquet"}),
    ]:
        with pytest.raises(error):
            decompress(**{"source": dataset, "out": str(out), "codec": FakeCodec()} | arguments)
        assert not out.exists()


def test_export_info_and_decompress_a_file(dataset, tmp_path):
    figures = export(dataset, str(tmp_path), ids=["a/img0003.png"])
    path = tmp_path / "a" / "img0003.psc"
    assert figures["written"] == 1
    assert figures["bytes"] == path.stat().st_size
    stream = psc_core.Stream.from_bytes(path.read_bytes())
    ((_, same),) = Dataset.open(dataset).streams(ids=["a/img0003.png"])
    assert stream == same
    about = info(str(path))
    assert about["bytes"] == path.stat().st_size
    assert about["tiers"][-1]["bytes_up_to"] == path.stat().st_size
    result = decompress(str(path), str(tmp_path / "one.png"), tier=1, codec=FakeCodec())
    assert result.written == 1
    assert np.asarray(Image.open(tmp_path / "one.png"))[0, 0] == 2
    decompress(str(path), str(tmp_path / "folder"), codec=FakeCodec())
    assert (tmp_path / "folder" / "img0003.png").exists()


def test_verify_finds_nothing_in_a_whole_dataset(dataset):
    audit = verify(dataset, deep=3, codec=FakeCodec())
    assert (audit.exit_code, audit.found, audit.decoded, audit.rows, audit.streams) == (0, 0, 3, 14, 13)


def test_verify_finds_a_flipped_byte_and_a_missing_shard(tmp_path):
    make_images(tmp_path / "src", 8)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds", [0, 1, 2])
    audit = verify(str(tmp_path / "ds"))
    assert (audit.found, audit.complete, audit.exit_code) == (0, False, 1)
    part = tmp_path / "ds" / "part-00001.parquet"
    data = bytearray(part.read_bytes())
    data[data.index(b"PAR1", 4) // 2 if data.count(b"PAR1") > 2 else 40] ^= 1
    part.write_bytes(data)
    (tmp_path / "ds" / "part-00002.parquet").unlink()
    audit = verify(str(tmp_path / "ds"))
    assert {p["where"] for p in audit.problems} == {"part-00001.parquet", "part-00002.parquet"}


def test_query_views(dataset):
    counts = query(dataset, "select status, count(*) as n from images group by 1 order by 1").to_pylist()
    assert counts == [{"status": "ok", "n": 13}, {"status": "unknown_format", "n": 1}]
    tiers = query(dataset, "select tier, count(*) as n, max(bpp) as top from tiers group by 1 order by 1").to_pylist()
    assert [t["n"] for t in tiers] == [13] * 4
    assert [t["top"] for t in tiers] == sorted(t["top"] for t in tiers)
    last = query(dataset, "select bpp from tiers where tier = 3 and image_id = 'a/img0000.png'").to_pylist()
    whole = query(dataset, "select bpp from images where image_id = 'a/img0000.png'").to_pylist()
    assert last == whole
    (failure,) = query(dataset, "select * from failures").to_pylist()
    assert failure["image_id"] == "broken.jpg"
    assert "tier_0" not in query(dataset, "select * from images").column_names
    assert "tier_0" in query(dataset, "select * from streams").column_names


@pytest.mark.parametrize("sql", ["selec", "select nothing from images", "select * from nowhere", ""])
def test_a_bad_query_is_refused(dataset, sql):
    with pytest.raises(BadRequest):
        query(dataset, sql)


def test_status_and_info(dataset):
    state = status(dataset)
    assert (state["complete"], state["rows"], state["ok"]) == (True, 14, 13)
    assert state["failed"] == {"unknown_format": 1}
    assert state["tiers"][3]["psnr"] == 26.0
    about = info(dataset)
    assert about["profile"] == "paper"
    assert about["prior_name"] == "fake"
    with pytest.raises(NotADataset):
        info(dataset + "/part-00000.parquet")


def test_other_readers_open_it_as_it_is(dataset):
    import duckdb
    import pyarrow.dataset as ds

    (rows,) = duckdb.sql(f"select count(*), count(tier_3) from '{dataset}/*.parquet'").fetchall()
    assert rows == (14, 13)
    assert ds.dataset(dataset).to_table(columns=["image_id", "tier_0"]).num_rows == 14
