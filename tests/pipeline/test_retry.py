"""Failed inputs again: what recovers is as if it had never failed, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.audit import verify
from pipeline.dataset import commit as committing
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, NotADataset, PlanDiffers
from pipeline.rates import truncate
from pipeline.request import Request
from pipeline.retry import Retrier, retry
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import RED_KILLS, FakeCodec, paper
from tests.pipeline.test_run import parts, red, statuses

BROKEN = ("img0002.png", "img0007.png", "img0008.png")


@pytest.fixture
def archive(tmp_path):
    """A dataset of 12 inputs, of which three failed; and their source, mended, with the whole dataset of it."""
    make_images(tmp_path / "src", 12)
    shutil.copytree(tmp_path / "src", tmp_path / "good")
    for name in BROKEN:
        (tmp_path / "src" / name).write_bytes(b"\xff\xd8 no" if name == BROKEN[0] else b"what")
    make_dataset(tmp_path / "src", tmp_path / "ds")
    return tmp_path


def mend(archive: Path, names=BROKEN) -> None:
    for name in names:
        shutil.copy2(archive / "good" / name, archive / "src" / name)


def run(archive, **options):
    return retry(str(archive / "ds"), **{"codec": FakeCodec(), "workers": 2, "prior": "fake"} | options)


def payloads(folder: Path) -> list[dict]:
    table = Dataset.open(str(folder)).arrow().to_table()
    return table.drop_columns(["source", "source_version"]).to_pylist()


def test_what_was_mended_is_as_if_it_had_never_failed(ray_session, archive):
    before = parts(archive / "ds")
    mend(archive, BROKEN[:2])
    result = run(archive)
    assert result.notes == {"retried": 3, "recovered": 2}
    assert (result.exit_code, result.tally.failed) == (1, {"unknown_format": 1})
    failed = {name for name, said in statuses(archive / "ds").items() if said != "ok"}
    assert failed == {BROKEN[2]}
    mend(archive)
    assert run(archive).exit_code == 0
    make_dataset(archive / "good", archive / "whole")
    assert payloads(archive / "ds") == payloads(archive / "whole")
    assert verify(str(archive / "ds")).exit_code == 0
    untouched = [name for name, data in parts(archive / "ds").items() if before[name] == data]
    assert len(untouched) >= len(before) - len(BROKEN)
    assert run(archive).notes == {"retried": 0, "recovered": 0}


def test_only_the_chosen_statuses(ray_session, archive):
    mend(archive)
    result = run(archive, status=["broken_image"])
    assert result.notes == {"retried": 1, "recovered": 1}
    assert result.tally.failed == {"unknown_format": 2}


def test_an_input_that_ends_its_worker_again(ray_session, archive):
    mend(archive)
    red(archive / "src" / BROKEN[1], RED_KILLS)
    assert run(archive).notes == {"retried": 3, "recovered": 2}
    assert statuses(archive / "ds")[BROKEN[1]] == "crashed"


def test_a_kill_between_part_and_marker_is_mended_by_the_next(ray_session, archive, monkeypatch):
    mend(archive)
    folder = Folder.at(archive / "ds")
    plan = Dataset.open(str(archive / "ds")).plan
    wanted = frozenset({"broken_image", "unknown_format"})
    source = Source(str(archive / "src"))
    retrier = Retrier(paper(), source, folder, FakeCodec(), batch=4, threads=None, wanted=wanted)

    def killed(*args, **kwargs):
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "put", killed)
        for shard in range(plan.shards):
            with pytest.raises(SystemExit):
                run_shards(plan, retrier, archive / "ds", [shard])
    assert set(statuses(archive / "ds").values()) == {"ok"}
    assert {p["code"] for p in verify(str(archive / "ds")).problems} == {"corrupt_part"}
    assert run(archive).tally.ok == 12
    assert verify(str(archive / "ds")).exit_code == 0


def test_two_at_once_leave_markers_of_what_is_there(archive, monkeypatch):
    mend(archive)
    folder, plan = Folder.at(archive / "ds"), Dataset.open(str(archive / "ds")).plan
    options = {"batch": 4, "threads": None, "wanted": frozenset({"broken_image", "unknown_format"})}
    with_good, with_bad = (
        Retrier(paper(), Source(str(archive / name)), folder, FakeCodec(), **options) for name in ("good", "src")
    )
    for path in (archive / "src").iterdir():
        path.write_bytes(b"what")
    shard = next(m["shard"] for m in Dataset.open(str(archive / "ds")).markers if len(m["status"]) > 1)
    put, once = Folder.put, []

    def overtaken(self, name, data):
        if not once:
            once.append(name)
            run_shards(plan, with_bad, archive / "ds", [shard])
        put(self, name, data)

    monkeypatch.setattr(Folder, "put", overtaken)
    run_shards(plan, with_good, archive / "ds", [shard])
    assert once
    assert committing.read_marker(folder, shard)["status"].keys() == {"ok", "unknown_format"}
    assert verify(str(archive / "ds")).found == 0


def test_wrong_use_touches_nothing(ray_session, archive):
    truncate(str(archive / "ds"), str(archive / "cut"), tier=0)
    plan, encoder = plan_dataset(archive / "src", archive / "half")
    run_shards(plan, encoder, archive / "half", [0])
    before = parts(archive / "ds")
    for error, dataset, options in [
        (BadRequest, "cut", {}),
        (NotADataset, "half", {}),
        (NotADataset, "src", {}),
        (BadRequest, "ds", {"status": ["io_error"]}),
        (PlanDiffers, "ds", {"codec": FakeCodec(fingerprint="11" * 16)}),
    ]:
        with pytest.raises(error):
            retry(str(archive / dataset), **{"codec": FakeCodec(), "workers": 1} | options)
    assert parts(archive / "ds") == before


def test_the_request_of_a_plan_is_the_one_that_made_it(tmp_path):
    make_images(tmp_path / "src", 2)
    request = paper(size=9, seed=5, max_bpp=2.0, max_pixels=10_000, overrides={"tiers": 3}, prior="fake")
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds", request)
    again = Request.of_plan(plan)
    assert again.params() == request.params()
    assert again.get_profile() == request.get_profile()
    assert FakeCodec().shared(again, FakeCodec().load(again)) == encoder.describe()
