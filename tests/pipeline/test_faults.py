"""Kills of real processes, again and again: every input stays exactly one row, and the bytes are those of an
undisturbed run.
"""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from PIL import Image

from pipeline.audit import verify
from pipeline.dataset.reader import Dataset
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import RED_KILLS, FakeCodec
from tests.pipeline.faults import (
    DRIVER,
    LOSES_A_NODE,
    CountsEncodings,
    DiesBeforeMarker,
    start,
    wait_for_commits,
)
from tests.pipeline.test_run import parts, red, run, statuses


@pytest.fixture
def source(tmp_path):
    """Twenty images, and the dataset of an undisturbed run."""
    make_images(tmp_path / "src", 20)
    make_dataset(tmp_path / "src", tmp_path / "undisturbed")
    return tmp_path / "src"


def check(source) -> None:
    folder = source.parent / "ds"
    assert parts(folder) == parts(source.parent / "undisturbed")
    assert len(statuses(folder)) == 20
    assert verify(str(folder)).exit_code == 0


def test_kills_between_upload_and_commit(ray_session, source, tmp_path):
    (tmp_path / "deaths").mkdir()
    result = run(source, tmp_path / "ds", codec=DiesBeforeMarker(place=str(tmp_path / "deaths"), deaths=2))
    assert len(list((tmp_path / "deaths").iterdir())) == 2
    assert result.exit_code == 0
    check(source)


def test_an_input_that_crashes_is_tried_a_bounded_number_of_times(ray_session, source, tmp_path):
    red(source / "kills.png", RED_KILLS)
    (tmp_path / "seen").mkdir()
    result = run(source, tmp_path / "ds", codec=CountsEncodings(place=str(tmp_path / "seen")), batch=1)
    assert result.tally.failed == {"crashed": 1}
    pixels = np.asarray(Image.open(source / "kills.png"))
    (tries,) = (p.stat().st_size for p in (tmp_path / "seen").glob(f"8x8-{int(pixels.sum())}"))
    # Once beside another shard, three times with its own, then as that is halved: it has at most 3 inputs.
    assert 3 <= tries <= 7
    row = Dataset.open(str(tmp_path / "ds")).arrow().to_table(columns=["image_id", "attempts"]).to_pylist()
    assert next(r["attempts"] for r in row if r["image_id"] == "kills.png") == 3


@pytest.mark.slow
def test_a_driver_killed_twice_in_a_row(source, tmp_path):
    for already, options in ((0, []), (1, ["resume"])):
        driver = start(DRIVER, source, tmp_path / "ds", 0.15, *options)
        wait_for_commits(driver, tmp_path / "ds", already + 2)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert not Dataset.open(str(tmp_path / "ds")).complete
    driver = start(DRIVER, source, tmp_path / "ds", 0, "resume")
    driver.communicate(timeout=120)
    assert driver.returncode == 0
    check(source)


@pytest.mark.slow
def test_two_drivers_that_know_nothing_of_each_other(source, tmp_path):
    drivers = [start(DRIVER, source, tmp_path / "ds", 0.1, "resume", "alone") for _ in range(2)]
    for driver in drivers:
        driver.communicate(timeout=180)
    assert [driver.returncode for driver in drivers] == [0, 0]
    check(source)


@pytest.mark.slow
def test_a_lost_node_costs_nothing(source, tmp_path):
    driver = start(LOSES_A_NODE, source, tmp_path / "ds")
    said, _ = driver.communicate(timeout=180)
    assert {"lost a node", "rows 20"} <= set(said.splitlines())
    assert driver.returncode == 0
    check(source)


@pytest.mark.slow
def test_every_worker_killed_again_and_again(ray_session, source, tmp_path):
    (tmp_path / "pids").mkdir()
    killed: list[int] = []

    def kill_all(tally):
        for path in (tmp_path / "pids").iterdir():
            if len(killed) < 6 and int(path.name) not in killed:
                killed.append(int(path.name))
                os.kill(killed[-1], signal.SIGKILL)

    codec = FakeCodec(seconds=0.05, pids=str(tmp_path / "pids"))
    assert run(source, tmp_path / "ds", codec=codec, progress=kill_all).exit_code == 0
    assert len(killed) >= 3
    check(source)
