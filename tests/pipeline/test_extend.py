"""Extending: earlier tiers byte for byte, later ones those of a direct encoding."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, PlanDiffers, SourceNotFound
from pipeline.extend import extend
from pipeline.rates import truncate
from pipeline.run import compress
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import RED_KILLS, FakeCodec, paper
from tests.pipeline.test_run import red

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def archive(tmp_path):
    """A source, the dataset of its tiers 0 and 1, and the direct encoding of tiers 0 to 3."""
    make_images(tmp_path / "src", 12)
    (tmp_path / "src" / "broken.jpg").write_bytes(b"no")
    make_dataset(tmp_path / "src", tmp_path / "low", paper(overrides={"tiers": 2}))
    make_dataset(tmp_path / "src", tmp_path / "direct", paper(overrides={"tiers": 4}))
    return tmp_path


def run(archive, target="high", **options):
    given = {"source": str(archive / "src"), "tier": 3, "codec": FakeCodec(), "workers": 2, "prior": "fake"}
    return extend(str(archive / "low"), str(archive / target), **given | options)


def rows(folder) -> list[dict]:
    return Dataset.open(str(folder)).arrow().to_table().to_pylist()


def test_it_equals_a_direct_encoding(archive):
    result = run(archive)
    assert result.notes == {"not_extended": 0}
    assert result.exit_code == 0
    assert rows(archive / "high") == rows(archive / "direct")
    for low, high in zip(rows(archive / "low"), rows(archive / "high"), strict=True):
        assert {k: v for k, v in low.items() if k.startswith("tier_")}.items() <= high.items()
    direct, extended = (Dataset.open(str(archive / name)).shared for name in ("direct", "high"))
    assert direct == extended


@pytest.mark.parametrize("cut", [{"tier": 1}, {"bpp": 0.5}])
def test_what_was_truncated_comes_back(archive, cut):
    truncate(str(archive / "direct"), str(archive / "cut"), **cut)
    result = extend(
        str(archive / "cut"), str(archive / "again"), source=str(archive / "src"), tier=3, codec=FakeCodec(), workers=1
    )
    assert result.exit_code == 0
    assert rows(archive / "again") == rows(archive / "direct")


def test_a_source_that_moved_or_changed(archive):
    shutil.copytree(archive / "src", archive / "moved" / "src")
    (archive / "moved" / "src" / "img0003.png").unlink()
    shutil.copy(archive / "src" / "img0001.png", archive / "moved" / "src" / "img0005.png")
    result = run(archive, source=str(archive / "moved" / "src"))
    assert (result.notes, result.made, result.tally.ok, result.exit_code) == ({"not_extended": 2}, 10, 12, 1)
    before = {row["image_id"]: row for row in rows(archive / "low")}
    for row in rows(archive / "high"):
        reason = {"img0003.png": "not_found", "img0005.png": "source_changed"}.get(row["image_id"])
        assert row["status"] == before[row["image_id"]]["status"]
        assert (row["tier_3"] is None) == (reason is not None or row["status"] != "ok")
        if reason:
            assert row["error"].startswith(f"not extended: {reason}")
            kept = {k: v for k, v in row.items() if k in before[row["image_id"]] and k != "error"}
            assert kept == {k: v for k, v in before[row["image_id"]].items() if k != "error"}


def test_bytes_that_do_not_come_again_are_not_replaced(archive):
    class Other(FakeCodec):
        def encode(self, images, request, prior):
            return super().encode([255 - image for image in images], request, prior)

    result = run(archive, codec=Other())
    assert (result.notes, result.made) == ({"not_extended": 12}, 0)
    assert all("not_reproduced" in row["error"] for row in rows(archive / "high") if row["status"] == "ok")
    assert [row["tier_1"] for row in rows(archive / "high")] == [row["tier_1"] for row in rows(archive / "low")]


def test_an_image_that_ends_its_worker_keeps_what_it_had(archive):
    red(archive / "src" / "img0007.png", RED_KILLS - 1)
    make_dataset(archive / "src", archive / "low2", paper(overrides={"tiers": 1}))
    codec = FakeCodec(kills_red=RED_KILLS - 1)
    target = str(archive / "high")
    result = extend(str(archive / "low2"), target, source=str(archive / "src"), tier=2, codec=codec, workers=2)
    assert result.notes == {"not_extended": 1}
    (row,) = (row for row in rows(archive / "high") if row["error"] and row["status"] == "ok")
    assert row["image_id"] == "img0007.png"
    assert "crashed" in row["error"]


def test_it_resumes_and_refuses_other_parameters(archive, tmp_path):
    run(archive)
    whole = {p.name: p.read_bytes() for p in (archive / "high").glob("*.parquet")}
    shutil.copytree(archive / "high", archive / "part")
    missing = sum(Dataset.open(str(archive / "high")).markers[number]["status"]["ok"] for number in (1, 3))
    for number in (1, 3):
        (archive / "part" / f"part-{number:05d}.parquet").unlink()
        (archive / "part" / "_psc" / "commits" / f"{number:05d}.json").unlink()
    with pytest.raises(PlanDiffers, match="tier"):
        run(archive, "part", resume=True, tier=2)
    with pytest.raises(PlanDiffers, match="kind"):
        compress(str(archive / "src"), str(archive / "part"), paper(), codec=FakeCodec(), workers=1, resume=True)
    assert run(archive, "part", resume=True).made == missing
    assert {p.name: p.read_bytes() for p in (archive / "part").glob("*.parquet")} == whole
    assert run(archive, "part", resume=True).tally.rows == 13


def test_wrong_use_writes_nothing(archive):
    (archive / "others").mkdir()
    shutil.copy(archive / "src" / "img0001.png", archive / "others" / "another.png")
    for error, options in [
        (BadRequest, {"tier": 0}),
        (BadRequest, {"tier": 1}),
        (SourceNotFound, {"source": str(archive / "nowhere")}),
        (SourceNotFound, {"source": str(archive / "others")}),
        (PlanDiffers, {"codec": replace(FakeCodec(), fingerprint="11" * 16)}),
    ]:
        with pytest.raises(error):
            run(archive, **options)
        assert not (archive / "high").exists()
