"""Speed and time left, from commits alone."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from pipeline.dataset.progress import WINDOW, Progress, Watch, commit_times, pace
from pipeline.errors import NotADataset
from pipeline.stores.storage import Folder
from tests.pipeline.build import plan_dataset, run_shards
from tests.pipeline.conftest import make_images


def test_the_first_commit_only_starts_the_clock():
    assert pace([], 0.0) is None
    assert pace([(5.0, 100)], 9.0) is None
    assert pace([(5.0, 100), (9.0, 8)], 9.0) == 2.0
    assert pace([(5.0, 100), (9.0, 8), (9.0, 8)], 10.0) == 4.0


def test_only_recent_commits_count():
    slow = [(float(10 * k), 1) for k in range(100)]
    fast = [(1000.0 + k, 1) for k in range(WINDOW + 1)]
    assert pace(slow + fast, fast[-1][0]) == 1.0


def test_a_stuck_job_slows_down():
    commits = [(0.0, 4), (2.0, 4), (4.0, 4)]
    assert pace(commits, 6.0) == 2.0
    assert pace(commits, 14.0) == 8 / (4 + 8)


def test_commits_at_one_time_give_no_speed():
    assert pace([(3.0, 1), (3.0, 1)], 3.0) is None


@pytest.fixture
def begun(tmp_path):
    make_images(tmp_path / "src", 20)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    return plan, encoder, tmp_path / "ds"


def test_a_watch_sees_what_another_commits(begun):
    plan, encoder, target = begun
    watch = Watch(Folder.at(target))
    assert watch.look().as_dict()["rows"] == 0
    run_shards(plan, encoder, target, [0])
    first = watch.look()
    assert (first.rate, first.eta, first.complete) == (None, None, False)
    assert 0 <= first.silent < 30
    time.sleep(0.05)
    run_shards(plan, encoder, target, [1])
    second = watch.look()
    assert second.tally.shards == 2
    assert second.rate > 0
    assert second.eta == pytest.approx(second.left / second.rate)
    run_shards(plan, encoder, target, range(2, plan.shards))
    last = watch.look().as_dict()
    assert last["complete"]
    assert (last["rows"], last["ok"], last["eta_seconds"], last["images_per_second"]) == (20, 20, 0.0, None)


def test_watching_ends_with_the_job(begun):
    plan, encoder, target = begun
    worker = threading.Thread(target=run_shards, args=(plan, encoder, target))
    worker.start()
    seen = list(Watch(Folder.at(target)).until_complete(0.02))
    worker.join()
    rows = [progress.tally.rows for progress in seen]
    assert rows == sorted(rows)
    assert rows[-1] == 20


def test_a_marker_is_read_once_and_again_when_it_is_replaced(begun, monkeypatch):
    plan, encoder, target = begun
    run_shards(plan, encoder, target, [0, 1])
    asked = []
    real = Folder.read_many
    monkeypatch.setattr(Folder, "read_many", lambda self, names: asked.append(names) or real(self, names))
    watch = Watch(Folder.at(target))
    watch.look()
    watch.look()
    assert [len(names) for names in asked] == [2, 0]
    marker = target / "_psc" / "commits" / "00001.json"
    time.sleep(0.02)
    marker.write_bytes(marker.read_bytes())
    assert watch.look().tally.shards == 2
    assert asked[-1] == ["_psc/commits/00001.json"]


def test_times_as_stores_give_them():
    class Fs:
        def ls(self, path, detail):
            moment = datetime(2026, 1, 2, tzinfo=UTC)
            names = {"00000.json": {"LastModified": moment}, "00001.json": {"updated": "2026-01-02T00:00:00Z"}}
            return [{"name": f"b/_psc/commits/{n}", "type": "file", **e} for n, e in names.items()]

    assert len(set(commit_times(Folder("memory://b", Fs(), "b")).values())) == 1


def test_no_dataset_no_watch(tmp_path):
    with pytest.raises(NotADataset):
        Watch(Folder.at(tmp_path)).look()


def test_progress_is_what_the_tally_says(begun):
    plan, encoder, target = begun
    run_shards(plan, encoder, target)
    done = Watch(Folder.at(target)).look()
    assert Progress(done.tally).complete
    assert done.left == 0
