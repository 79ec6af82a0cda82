"""Whole jobs through Ray: crashes, kills, resumes, two drivers."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.audit import verify
from pipeline.dataset import plan as planning
from pipeline.dataset.commit import part_name
from pipeline.dataset.reader import Dataset
from pipeline.errors import AlreadyADataset, BadRequest, JobFailed, PlanDiffers, SourceNotFound, TargetNotWritable
from pipeline.outputs.target import RECORD
from pipeline.request import Request
from pipeline.restore import decompress
from pipeline.run import compress
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.workers import driver as driving
from psc_core.errors import PriorNotFound, UnknownProfile
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import RED_FAILS, RED_KILLS, FakeCodec, paper
from tests.pipeline.faults import DRIVER, start, wait_for_commits


@pytest.fixture
def source(tmp_path):
    make_images(tmp_path / "src", 20)
    return tmp_path / "src"


def red(path: Path, strength: int) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0, 0, 0] = strength
    Image.fromarray(pixels).save(path)


def run(source, target, **options):
    return compress(str(source), str(target), **{"request": paper(), "codec": FakeCodec(), "workers": 2} | options)


def parts(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.parquet"))}


def statuses(folder: Path) -> dict[str, str]:
    rows = Dataset.open(str(folder)).arrow().to_table(columns=["image_id", "status"]).to_pylist()
    assert len(rows) == len({r["image_id"] for r in rows})
    return {r["image_id"]: r["status"] for r in rows}


def test_a_whole_job_equals_one_without_ray(ray_session, source, tmp_path):
    seen = []
    result = run(source, tmp_path / "ds", progress=lambda tally: seen.append(tally.rows))
    make_dataset(source, tmp_path / "alone")
    assert parts(tmp_path / "ds") == parts(tmp_path / "alone")
    assert (result.exit_code, result.tally.ok, result.tally.rows) == (0, 20, 20)
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert seen[-1] == 20
    assert verify(str(tmp_path / "ds")).exit_code == 0
    assert not (tmp_path / "ds" / "_psc" / "spool").exists()


def test_workers_and_batches_do_not_change_the_bytes(ray_session, source, tmp_path):
    run(source, tmp_path / "a", workers=1, batch=1)
    run(source, tmp_path / "b", workers=2, batch=5)
    assert parts(tmp_path / "a") == parts(tmp_path / "b")


def test_inputs_that_end_their_worker_are_recorded_and_no_other(ray_session, source, tmp_path):
    red(source / "kills.png", RED_KILLS)
    red(source / "a_kills_too.png", RED_KILLS)
    red(source / "fails.png", RED_FAILS)
    result = run(source, tmp_path / "ds")
    failed = {i: s for i, s in statuses(tmp_path / "ds").items() if s != "ok"}
    assert failed == {"kills.png": "crashed", "a_kills_too.png": "crashed", "fails.png": "encode_failed"}
    assert result.exit_code == 1
    assert result.tally.rows == 23


def test_a_worker_killed_from_outside_costs_nothing(ray_session, source, tmp_path):
    make_dataset(source, tmp_path / "undisturbed")
    (tmp_path / "pids").mkdir()
    killed = []

    def kill_one(tally):
        if tally.rows and not killed:
            killed.append(int(next((tmp_path / "pids").iterdir()).name))
            os.kill(killed[0], signal.SIGKILL)

    codec = FakeCodec(seconds=0.1, pids=str(tmp_path / "pids"))
    result = run(source, tmp_path / "ds", codec=codec, progress=kill_one)
    assert killed
    assert result.exit_code == 0
    assert parts(tmp_path / "ds") == parts(tmp_path / "undisturbed")


def test_resume_does_only_what_is_missing(ray_session, source, tmp_path):
    make_dataset(source, tmp_path / "undisturbed")
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds", [0, 4, 5])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ds").glob("*.parquet")}
    with pytest.raises(AlreadyADataset):
        run(source, tmp_path / "ds")
    was_there, begun = Dataset.open(str(tmp_path / "ds")).tally().ok, []
    result = run(source, tmp_path / "ds", resume=True, on_begin=lambda: begun.append(1))
    assert (result.tally.rows, result.made) == (20, 20 - was_there)
    assert parts(tmp_path / "ds") == parts(tmp_path / "undisturbed")
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    again = run(source, tmp_path / "ds", resume=True)
    assert (again.tally.rows, again.made) == (20, 0)
    assert not begun
    new = run(source, tmp_path / "new", resume=True, on_begin=lambda: begun.append(1))
    assert (new.made, begun) == (20, [1])


def test_resume_with_other_parameters_is_refused_and_touches_nothing(ray_session, source, tmp_path):
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds", [0])
    before = sorted(tmp_path.rglob("*"))
    for options, name in [
        ({"request": paper(seed=1)}, "seed"),
        ({"request": paper(size=9)}, "size"),
        ({"request": paper(overrides={"tiers": 2})}, "tiers"),
        ({"codec": FakeCodec(fingerprint="11" * 16)}, "prior_fingerprint"),
    ]:
        with pytest.raises(PlanDiffers, match=name):
            run(source, tmp_path / "ds", resume=True, **options)
    make_images(tmp_path / "src2", 3)
    before += [*(tmp_path / "src2").rglob("*"), tmp_path / "src2"]
    with pytest.raises(PlanDiffers, match="source"):
        run(tmp_path / "src2", tmp_path / "ds", resume=True)
    assert sorted(tmp_path.rglob("*")) == sorted(before)


@pytest.mark.parametrize(
    ("profile", "fits"),
    [("archive", {"native_size": 256}), ("paper", {"native_size": 64}), ("archive", {"native_size": 128, "scale": 8})],
    ids=str,
)
def test_the_same_command_resumes_where_the_prior_fits_the_profile(ray_session, source, tmp_path, profile, fits):
    """The plan holds what the prior made of the profile that was asked for."""
    asked = {"request": Request(profile=profile), "codec": FakeCodec(**fits), "resume": True}
    run(source, tmp_path / "ds", **asked)
    whole = parts(tmp_path / "ds")
    (tmp_path / "ds" / "_psc" / "commits" / "00003.json").unlink()
    assert run(source, tmp_path / "ds", **asked).made > 0
    assert parts(tmp_path / "ds") == whole
    assert run(source, tmp_path / "ds", **asked).made == 0
    # Whole, it is never asked for its prior: what no prior makes of a profile is refused all the same.
    for overrides, said in [
        ({"canvas": 32}, r"profile\.canvas \d+ planned, 32"),
        ({"tiers": 2}, r"--tiers \d planned, 2"),
    ]:
        other = Request(profile=profile, overrides=overrides)
        with pytest.raises(PlanDiffers, match=rf"^{said} given(; profile\.window|: give)"):
            run(source, tmp_path / "ds", **asked | {"request": other})


def test_a_prior_that_fits_the_profile_otherwise_is_refused(ray_session, source, tmp_path):
    """A canvas that some prior makes of what is asked for now, and this one does not."""
    plan, encoder = plan_dataset(source, tmp_path / "ds", Request(overrides={"canvas": 64}))
    run_shards(plan, encoder, tmp_path / "ds", [0])
    with pytest.raises(PlanDiffers, match=r"^profile\.canvas 64 planned, 512 given"):
        run(source, tmp_path / "ds", request=Request(), resume=True)


def test_wrong_use_is_refused_before_anything_is_written(ray_session, source, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for error, options in [
        (SourceNotFound, {"source": tmp_path / "missing"}),
        (SourceNotFound, {"source": tmp_path / "empty"}),
        (TargetNotWritable, {"target": tmp_path / "file"}),
        (TargetNotWritable, {"target": "/proc/ds"}),
        (UnknownProfile, {"request": Request(profile="nope")}),
        (PriorNotFound, {"codec": FakeCodec(load_error=PriorNotFound("no prior 'x'"))}),
    ]:
        with pytest.raises(error):
            run(**{"source": source, "target": tmp_path / "ds"} | options)
        assert not (tmp_path / "ds").exists()


def test_a_full_disk_stops_the_job_with_its_reason(ray_session, source, tmp_path):
    plan_dataset(source, tmp_path / "ds")
    # A file where a folder belongs: every upload fails, whoever runs as root.
    (tmp_path / "ds" / "_psc" / "commits").write_text("in the way")
    with pytest.raises(JobFailed, match="commits"):
        run(source, tmp_path / "ds", resume=True)


def test_what_is_found_on_the_way_breaks_the_job_off_by_its_name(ray_session, source, tmp_path):
    plan_dataset(source, tmp_path / "ds")
    last = planning.read_plan(Folder.at(tmp_path / "ds")).shards - 1
    (tmp_path / "ds" / part_name(last)).write_bytes(b"no part")
    with pytest.raises(JobFailed, match="in the way") as broken:
        run(source, tmp_path / "ds", resume=True)
    assert broken.value.code == "corrupt_part"
    assert len(list((tmp_path / "ds").glob("*.parquet"))) > 1


def test_two_drivers_at_once_make_one_dataset(ray_session, source, tmp_path):
    make_dataset(source, tmp_path / "undisturbed")
    outcomes = []

    def drive():
        outcomes.append(run(source, tmp_path / "ds", codec=FakeCodec(seconds=0.03), workers=1, resume=True))

    threads = [threading.Thread(target=drive) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [o.tally.rows for o in outcomes] == [20, 20]
    assert parts(tmp_path / "ds") == parts(tmp_path / "undisturbed")


def test_a_killed_driver_and_a_resume_give_the_undisturbed_bytes(ray_session, source, tmp_path):
    make_dataset(source, tmp_path / "undisturbed")
    driver = start(DRIVER, source, tmp_path / "ds", 0.15)
    wait_for_commits(driver, tmp_path / "ds", 1)
    driver.kill()
    driver.wait()
    assert not Dataset.open(str(tmp_path / "ds")).complete
    result = run(source, tmp_path / "ds", resume=True)
    assert result.tally.rows == 20
    assert parts(tmp_path / "ds") == parts(tmp_path / "undisturbed")


def test_ctrl_c_drains_and_can_be_resumed(ray_session, source, tmp_path):
    driver = start(DRIVER, source, tmp_path / "ds", 0.15)
    wait_for_commits(driver, tmp_path / "ds", 1)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    opened = Dataset.open(str(tmp_path / "ds"))
    assert driver.returncode == 130
    assert out.split() == ["draining", str(len(opened.shards))]
    assert 0 < len(opened.shards) < opened.plan.shards
    assert verify(str(tmp_path / "ds")).found == 0
    assert run(source, tmp_path / "ds", resume=True).tally.rows == 20


@pytest.mark.parametrize("answers", [True, False])
def test_ctrl_c_while_ray_starts_waits_until_it_has(monkeypatch, source, tmp_path, answers):
    """Ray that is interrupted there ends the process by a signal of its own. What then becomes of it is no news."""
    whole, said = [], []

    @contextmanager
    def starting(address):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        whole.append(address)
        if not answers:
            raise BadRequest(f"no Ray cluster at {address}")
        yield None

    monkeypatch.setattr("pipeline.workers.driver.cluster", starting)
    with pytest.raises(KeyboardInterrupt, match="nothing is written"):
        run(source, tmp_path / "ds", address="ray://nowhere", on_stop=lambda: said.append(1))
    assert (whole, said) == (["ray://nowhere"], [1])
    assert not (tmp_path / "ds").exists()


def test_ctrl_c_as_the_first_worker_is_ready(ray_session, monkeypatch, source, tmp_path):
    """Nothing was said of it, and nothing looks again: yet no plan is frozen after it."""
    describe = driving._describe

    def described(*args):
        found = describe(*args)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(driving, "_describe", described)
    with pytest.raises(KeyboardInterrupt, match="nothing is written"):
        run(source, tmp_path / "ds")
    assert not (tmp_path / "ds").exists()


def test_decompress_on_workers_equals_decompress_here(ray_session, source, tmp_path):
    red(source / "z.png", 7)
    make_dataset(source, tmp_path / "ds")
    seen = []
    ids = ["img0001.png", "img0013.png"]
    for name, options in [("here", {}), ("there", {"workers": 2, "progress": lambda *n: seen.append(n)})]:
        assert decompress(str(tmp_path / "ds"), str(tmp_path / name), codec=FakeCodec(), **options).written == 21
        some = decompress(str(tmp_path / "ds"), str(tmp_path / f"{name}2"), ids=ids, codec=FakeCodec(), **options)
        assert some.written == 2
    for name in ("", "2"):
        here, there = (
            {str(p.relative_to(tmp_path / f)): p.read_bytes() for p in sorted((tmp_path / f).rglob("*.png"))}
            for f in (f"here{name}", f"there{name}")
        )
        assert here == there
    assert (21, 21) in seen


def test_an_image_that_ends_its_decoder_is_told_and_no_other(ray_session, source, tmp_path):
    red(source / "img0007.png", 1)
    make_dataset(source, tmp_path / "ds")
    result = decompress(str(tmp_path / "ds"), str(tmp_path / "out"), workers=2, codec=FakeCodec(kills_width=8))
    assert {f["image_id"]: f["code"] for f in result.failed} == {"img0007.png": "crashed"}
    assert result.written == 19
    assert result.exit_code == 1


@pytest.mark.parametrize("options", [{}, {"workers": 2}])
def test_decompress_to_parquet(ray_session, source, tmp_path, options):
    make_dataset(source, tmp_path / "ds")
    out = tmp_path / "out"
    result = decompress(str(tmp_path / "ds"), str(out), format="parquet", codec=FakeCodec(kills_width=0), **options)
    assert (result.written, result.exit_code) == (20, 0)
    decompress(str(tmp_path / "ds"), str(tmp_path / "files"), codec=FakeCodec())
    rows = ds.dataset(out, format="parquet").to_table().to_pylist()
    assert [row["image_id"] for row in rows] == sorted(p.name for p in source.iterdir())
    assert {r["image"]["path"]: r["image"]["bytes"] for r in rows} == {
        p.name: p.read_bytes() for p in (tmp_path / "files").glob("*.png")
    }
    assert all(Image.open(io.BytesIO(r["image"]["bytes"])).size == (r["width"], r["height"]) for r in rows)
    assert sum(1 for _ in Source(str(out)).items()) == 20
    assert not [p for p in out.iterdir() if p.suffix != ".parquet" and p.name != RECORD]


def test_an_image_that_ends_its_decoder_is_missing_in_the_parquet_alone(ray_session, source, tmp_path):
    red(source / "img0007.png", 1)
    make_dataset(source, tmp_path / "ds")
    options = {"format": "parquet", "workers": 2, "codec": FakeCodec(kills_width=8)}
    result = decompress(str(tmp_path / "ds"), str(tmp_path / "out"), **options)
    ids = ds.dataset(tmp_path / "out", format="parquet").to_table()["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == result.written == 19
    assert not set(ids) & {f["image_id"] for f in result.failed}


def test_decompress_runs_on_the_cluster_that_the_environment_names(ray_session, source, tmp_path, monkeypatch):
    make_dataset(source, tmp_path / "ds")
    pids = tmp_path / "pids"
    for name, address in (("here", None), ("there", ray_session.get_runtime_context().gcs_address)):
        (pids / name).mkdir(parents=True)
        if address is not None:
            monkeypatch.setenv("RAY_ADDRESS", address)
        assert (
            decompress(str(tmp_path / "ds"), str(tmp_path / name), codec=FakeCodec(pids=str(pids / name))).written == 20
        )
    loaded = {name: {int(p.name) for p in (pids / name).iterdir()} for name in ("here", "there")}
    assert loaded["here"] == {os.getpid()}
    assert loaded["there"]
    assert os.getpid() not in loaded["there"]


def test_decompress_on_workers_goes_on(ray_session, source, tmp_path):
    make_dataset(source, tmp_path / "ds")
    ids = [f"img{n:04d}.png" for n in range(20)]
    for format in ("png", "parquet"):
        out = tmp_path / format
        options = {"ids": ids, "format": format, "codec": FakeCodec()}
        assert decompress(str(tmp_path / "ds"), str(out), **options).written == 20
        before = {p.name: p.read_bytes() for p in out.iterdir()}
        for name in sorted(before)[5:9]:
            (out / name).unlink()
        result = decompress(str(tmp_path / "ds"), str(out), resume=True, workers=2, **options)
        assert 0 < result.written < 20
        assert result.written + result.kept == 20
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before
