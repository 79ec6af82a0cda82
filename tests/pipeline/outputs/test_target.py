"""What `decompress` and `export` may write over: nothing, but pictures of their own when that is asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.dataset import plan as planning
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, PlanDiffers, Refused
from pipeline.export import export
from pipeline.outputs.pictures import part_of
from pipeline.outputs.target import RECORD
from pipeline.rates import truncate
from pipeline.restore import decompress
from pipeline.retry import Retrier
from psc_core.errors import CorruptStream
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec

COUNT = 10


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with originals ``src``, their dataset ``ds`` of five parts, and ``small``, its lower tiers."""
    make_images(tmp_path / "src" / "a", COUNT, size=8)
    monkeypatch.setattr(planning, "MIN_SHARDS", 5)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    truncate(str(tmp_path / "ds"), str(tmp_path / "small"), tier=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Counting(FakeCodec):
    """Counts what it decodes, and ends after so many."""

    def __init__(self, until: int = 10**9) -> None:
        super().__init__()
        object.__setattr__(self, "until", until)
        object.__setattr__(self, "seen", [])

    def decode(self, streams, prior, *, tier, restore):
        if len(self.seen) >= self.until:
            raise KeyboardInterrupt
        self.seen.extend(streams)
        return super().decode(streams, prior, tier=tier, restore=restore)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(source: object, out: object, **options):
    return decompress(str(source), str(out), **{"codec": FakeCodec(), "batch": 1} | options)


def values(folder: Path) -> list[int]:
    """Of every picture the number of tiers that it was decoded from."""
    return [int(np.asarray(Image.open(p)).flat[0]) for p in sorted(folder.rglob("*.png"))]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("format", ["png", "jpg", "parquet"])
@pytest.mark.parametrize("out", ["ds", "ds/", "ds/more", "ds/_psc", "small", "link", "src", "src/../src"])
def test_datasets_and_originals_take_no_pictures(place, out, format, overwrite):
    os.symlink("ds", "link")
    before = contents(place)
    for source in ("ds", "small"):
        with pytest.raises(BadRequest, match="choose"):
            run(source, out, format=format, overwrite=overwrite)
        assert contents(place) == before
    with pytest.raises(BadRequest, match="choose"):
        run("ds", "src/../ds", format=format, overwrite=overwrite)
    assert contents(place) == before


def test_a_link_to_the_originals_is_known(place):
    os.symlink("src", "link")
    before = contents(place / "src")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(BadRequest, match="images that were compressed"):
            run("ds", "link", **options)
    # Inside of the folder: a link in the place of one of its directories.
    os.makedirs("out")
    os.symlink(place / "src" / "a", "out/a")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(BadRequest, match=r"a/img0000\.png"):
            run("ds", "out", **options)
    assert contents(place / "src") == before


def test_originals_that_were_moved_are_other_files(place):
    shutil.move("src", "photos")
    before = contents(place)
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(BadRequest, match=r"a/img0000.png, a/img0001.png, a/img0002.png and more already"):
            run("ds", "photos", **options)
        assert contents(place) == before


@pytest.mark.parametrize("out", [".", "src/a"])
def test_overwrite_keeps_apart_from_originals(place, out):
    assert run("ds", out, ids=["a/img0001.png"], format="jpg").written == 1
    before = contents(place)
    for source in ("ds", "small"):
        with pytest.raises(BadRequest, match="not apart from"):
            run(source, out, overwrite=True)
    assert contents(place) == before


def test_a_run_is_repeated_only_when_that_is_said(place):
    assert run("ds", "out").written == COUNT
    before = contents(place / "out")
    with pytest.raises(BadRequest, match="--resume goes on with that run, --overwrite replaces"):
        run("ds", "out", tier=0)
    assert contents(place / "out") == before
    assert run("ds", "out", tier=0, overwrite=True).written == COUNT
    assert values(place / "out") == [1] * COUNT
    assert run("ds", "out", overwrite=True).written == COUNT
    assert contents(place / "out") == before
    # Other names beside them are nobody's harm.
    assert run("ds", "out", format="webp").written == COUNT


def test_files_of_others_are_never_replaced(place):
    (place / "out" / "a").mkdir(parents=True)
    (place / "out" / "a" / "img0003.png").write_bytes(b"mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(BadRequest, match=r"holds a/img0003.png already"):
            run("ds", "out", **options)
    assert contents(place / "out") == {"a/img0003.png": b"mine"}
    assert run("ds", "out", ids=["a/img0002.png"]).written == 1


def test_a_run_goes_on(place):
    run("ds", "whole")
    with pytest.raises(KeyboardInterrupt, match="--resume goes on"):
        run("ds", "out", codec=Counting(4))
    assert len(values(place / "out")) == 4
    codec, seen = Counting(), []
    result = run("ds", "out", codec=codec, resume=True, progress=lambda *at: seen.append(at))
    assert (result.written, result.kept, len(codec.seen), result.exit_code) == (COUNT - 4, 4, COUNT - 4, 0)
    assert contents(place / "out") == contents(place / "whole")
    assert seen[-1] == (COUNT, COUNT)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    again = run("ds", "out", codec=codec, resume=True)
    assert (again.written, again.kept, len(codec.seen)) == (0, COUNT, COUNT - 4)


def test_rows_go_on_by_part(place):
    run("ds", "whole", format="parquet")
    assert sorted(p.name for p in (place / "whole").glob("[!.]*")) == [part_of(n) for n in range(5)]
    with pytest.raises(KeyboardInterrupt):
        run("ds", "out", format="parquet", codec=Counting(5))
    codec = Counting()
    result = run("ds", "out", format="parquet", codec=codec, resume=True)
    assert (result.written, result.kept, len(codec.seen)) == (6, 4, 6)
    assert contents(place / "out") == contents(place / "whole")
    assert not ds.dataset(place / "out", format="parquet").schema.equals(ds.dataset(place / "ds").schema)


def test_an_image_that_did_not_decode_is_tried_again(place):
    class Picky(FakeCodec):
        def decode(self, streams, prior, *, tier, restore):
            if any(s.height == 12 for s in streams):
                raise CorruptStream("bad one")
            return super().decode(streams, prior, tier=tier, restore=restore)

    for format in ("png", "parquet"):
        first = run("ds", format, format=format, codec=Picky())
        assert 0 < first.failures < COUNT
        again = run("ds", format, format=format, codec=Picky(), resume=True)
        assert (again.failures, again.written + again.kept) == (first.failures, first.written)
        mended = run("ds", format, format=format, resume=True)
        assert (mended.failures, mended.written + mended.kept) == (0, COUNT)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tier": 0}, "--tier 1 planned, 0 given"),
        ({"tier": None, "bpp": 0.5}, "--bpp none planned, 0.5 given; --tier 1 planned, none given"),
        ({"restore": "perceptual"}, "--restore mean planned, perceptual given"),
        ({"format": "jpg"}, "--format png planned, jpg given"),
        ({"ids": ["a/img0001.png"]}, "--ids none planned, 1 of sha256"),
        ({"source": "small"}, "dataset compress of file:"),
    ],
)
def test_a_run_does_not_go_on_as_another(place, options, said):
    run("ds", "out", tier=1)
    before = contents(place)
    with pytest.raises(PlanDiffers, match=said):
        run(**{"source": "ds", "out": "out", "tier": 1, "resume": True} | options)
    assert contents(place) == before


def test_resume_begins_where_nothing_is(place):
    said = []
    assert run("ds", "out", resume=True, on_begin=lambda: said.append(1)).written == COUNT
    assert said == [1]
    with pytest.raises(BadRequest, match="choose one"):
        run("ds", "out", resume=True, overwrite=True)


def test_a_broken_overwriting_is_repeated_and_not_resumed(place):
    run("ds", "out")
    with pytest.raises(KeyboardInterrupt):
        run("ds", "out", tier=0, overwrite=True, codec=Counting(4))
    for tier in (None, 0):
        with pytest.raises(Refused, match="--overwrite"):
            run("ds", "out", tier=tier, resume=True)
    run("ds", "out", tier=0, overwrite=True)
    assert values(place / "out") == [1] * COUNT
    assert run("ds", "out", tier=0, resume=True).kept == COUNT


def test_rows_of_two_runs_are_never_mixed(place):
    run("ds", "out", format="parquet")
    before = contents(place / "out")
    few = {"ids": ["a/img0001.png"], "format": "parquet"}
    with pytest.raises(BadRequest, match=part_of(0)):
        run("ds", "out", **few)
    with pytest.raises(BadRequest, match="among its own"):
        run("ds", "out", overwrite=True, **few)
    assert contents(place / "out") == before

    class None_(FakeCodec):
        def decode(self, streams, prior, *, tier, restore):
            raise CorruptStream("bad one")

    assert run("ds", "out", format="parquet", overwrite=True, codec=None_()).failures == COUNT
    assert ds.dataset(place / "out", format="parquet").count_rows() == 0


def test_images_that_a_retry_recovered_are_added(place):
    (place / "src" / "a" / "img0004.png").write_bytes(b"no")
    make_dataset(place / "src", place / "bad")
    assert run("bad", "out").written == run("bad", "rows", format="parquet").written == COUNT - 1
    make_images(place / "src" / "a", COUNT, size=8)
    from pipeline.dataset.plan import ItemsFile
    from pipeline.request import Request
    from pipeline.sources import Source
    from pipeline.workers.attempts import Task

    opened = Dataset.open("bad")
    items = ItemsFile(opened.folder, opened.plan)
    (shard,) = (m["shard"] for m in opened.markers if m["status"].keys() > {"ok"} or "ok" not in m["status"])
    parts = (Request.of_plan(opened.plan), Source(opened.plan.source), opened.folder, FakeCodec())
    retrier = Retrier(*parts, batch=4, threads=None, wanted=frozenset({"unknown_format"}))
    retrier.run(opened.plan, Task(shard, items.count(shard)), items.shard(shard))
    more = run("bad", "out", resume=True)
    assert (more.written, more.kept) == (1, COUNT - 1)
    rows = run("bad", "rows", format="parquet", resume=True)
    assert (rows.written + rows.kept, ds.dataset("rows", format="parquet").count_rows()) == (COUNT, COUNT)


def test_one_file(place):
    export("ds", "files", ids=["a/img0001.png"])
    one = "files/a/img0001.psc"
    run(one, "one.png")
    for out, options in (
        ("one.png", {}),
        ("ds", {}),
        ("ds", {"overwrite": True}),
        ("ds/x.png", {}),
        ("b", {"resume": True}),
    ):
        before = contents(place)
        with pytest.raises(BadRequest):
            run(one, out, tier=0, **options)
        assert contents(place) == before
    run(one, "one.png", tier=0, overwrite=True)
    assert int(np.asarray(Image.open("one.png")).flat[0]) == 1


def test_exports_are_replaced_only_when_that_is_said(place):
    export("ds", "out")
    before = contents(place)
    for out in ("out", "ds", "small", "ds/more", "src"):
        with pytest.raises(BadRequest, match="choose"):
            export("ds", out, tier=0)
        assert contents(place) == before
    assert export("ds", "out", tier=0, overwrite=True)["written"] == COUNT
    assert sum(map(len, contents(place / "out").values())) < sum(
        len(v) for k, v in before.items() if k.startswith("out")
    )


def test_truncate_and_extend_take_no_folder_that_is_taken(place):
    from pipeline.extend import extend

    before = contents(place)
    for out in ("ds", "small", "src", "."):
        for resume in (False, True):
            with pytest.raises(Refused):
                truncate("ds", out, tier=0, resume=resume)
            with pytest.raises(Refused):
                extend("small", out, source="src", tier=2, resume=resume, codec=FakeCodec())
            assert contents(place) == before


def test_on_a_store(place):
    fs = fsspec.filesystem("memory")
    fs.put(str(place / "src"), "/outputs/src", recursive=True)
    try:
        make_dataset("memory://outputs/src", "memory://outputs/ds")
        before = {name: fs.cat_file(name) for name in fs.find("/outputs")}
        for out in ("ds", "src", "ds/more"):
            for options in ({}, {"overwrite": True}, {"format": "parquet", "overwrite": True}):
                with pytest.raises(BadRequest, match="choose"):
                    run("memory://outputs/ds", f"memory://outputs/{out}", **options)
        assert {name: fs.cat_file(name) for name in fs.find("/outputs")} == before
        with pytest.raises(KeyboardInterrupt):
            run("memory://outputs/ds", "memory://outputs/out", codec=Counting(4))
        with pytest.raises(BadRequest, match=r"a/img0000\.png"):
            run("memory://outputs/ds", "memory://outputs/out")
        codec = Counting()
        assert run("memory://outputs/ds", "memory://outputs/out", resume=True, codec=codec).kept == 4
        assert len(codec.seen) == COUNT - 4
        assert f"/outputs/out/{RECORD}" in fs.find("/outputs/out")
    finally:
        fs.rm("/outputs", recursive=True)
