"""Folders: names that read like patterns, and files in the making that belong to one job."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import pytest

from pipeline.audit import verify
from pipeline.clean import clean
from pipeline.dataset import catalog
from pipeline.dataset.plan import ItemsFile
from pipeline.dataset.progress import Watch
from pipeline.dataset.reader import Dataset
from pipeline.export import export
from pipeline.rates import truncate
from pipeline.restore import decompress
from pipeline.stores.storage import Folder
from pipeline.workers import actors
from pipeline.workers.attempts import Task
from pipeline.workers.driver import finish
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec


@pytest.mark.parametrize("root", ["{}", "memory://storage-test"])
def test_a_folder_whose_name_reads_like_a_pattern(tmp_path, root):
    """Other folders that the pattern would match lie beside it."""
    root = root.format(tmp_path)
    make_images(tmp_path / "s[1]*?", 6)
    for name in ("a1bc", "a[1]*?"):
        make_dataset(tmp_path / "s[1]*?", f"{root}/{name}")
    dataset = f"{root}/a[1]*?"
    assert catalog.status(dataset)["ok"] == catalog.info(dataset)["ok"] == 6
    assert Watch(Folder.at(dataset)).look().complete
    assert verify(dataset, deep=1, codec=FakeCodec()).exit_code == 0
    assert catalog.query(dataset, "select count(*) as n from images")["n"].to_pylist() == [6]
    assert truncate(dataset, f"{root}/b[1]*?", tier=0).tally.ok == 6
    assert verify(f"{root}/b[1]*?").exit_code == 0
    assert export(dataset, f"{root}/out[1]*?")["written"] == 6
    assert decompress(dataset, f"{root}/png[1]*?", codec=FakeCodec()).written == 6
    folder = Folder.at(dataset)
    folder.put("_psc/spool/psc-x/half", b"half")
    assert clean(dataset, older_than=0)["leftovers"] == ["_psc/spool/psc-x/half"]
    assert Dataset.open(f"{root}/a1bc").tally().ok == 6


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path):
    folder = Folder.at(tmp_path)
    folder.put("here", b"1")
    assert folder.read_many([]) == {}
    with pytest.raises(FileNotFoundError):
        folder.read_many(["here", "gone"])


def test_a_driver_that_ends_leaves_anothers_files_in_the_making(tmp_path, monkeypatch):
    """One has a part before its commit when the other, which had less to do, comes to its end."""
    make_images(tmp_path / "src", 4)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    _, other = plan_dataset(tmp_path / "src", tmp_path / "ds")
    items = ItemsFile(Folder.at(tmp_path / "ds"), plan).shard(0)
    commit, mine = actors.commit, threading.get_ident()

    def late(target, local, *args, **options):
        if threading.get_ident() == mine and not Dataset.open(str(tmp_path / "ds")).complete:
            thread = threading.Thread(target=run_shards, args=(plan, other, tmp_path / "ds"))
            thread.start()
            thread.join()
            assert finish(Folder.at(tmp_path / "ds"), plan, 0.0, stopped=False).exit_code == 0
            assert local.exists()
        return commit(target, local, *args, **options)

    monkeypatch.setattr(actors, "commit", late)
    assert encoder.run(plan, Task(0, len(items)), items)["shard"] == 0
    assert verify(str(tmp_path / "ds")).exit_code == 0


def test_a_part_that_vanished_before_its_commit_is_an_error_that_may_pass(tmp_path, monkeypatch):
    make_images(tmp_path / "src", 4)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    commit = actors.commit

    def after_removal(target, local, *args, **options):
        local.unlink()
        return commit(target, local, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(actors, "commit", after_removal)
        with pytest.raises(FileNotFoundError):
            run_shards(plan, encoder, tmp_path / "ds", [0])
    run_shards(plan, encoder, tmp_path / "ds")
    assert verify(str(tmp_path / "ds")).exit_code == 0


def test_only_its_own_spool_is_swept(tmp_path):
    """A worker's folder is its driver's, wherever the driver's was pickled to."""
    driver, stranger = Folder.at(tmp_path), Folder.at(tmp_path)
    worker = pickle.loads(pickle.dumps(driver))
    made = [worker._scratch(), stranger._scratch()]
    left = [Path(one.name) for one in made]
    for folder in left:
        (folder / "shard-00000").write_bytes(b"half")
    driver.sweep_spool()
    assert [folder.exists() for folder in left] == [False, True]
    stranger.sweep_spool()
    assert not (tmp_path / "_psc" / "spool").exists()
    driver.sweep_spool()


def test_a_spool_that_another_driver_tidies_away(tmp_path, monkeypatch):
    folder, seen = Folder.at(tmp_path), []
    makedirs = os.makedirs

    def tidied(path, *args, **options):
        makedirs(path, *args, **options)
        seen.append(path)
        if len(seen) == 1:
            folder.sweep_spool()

    monkeypatch.setattr("os.makedirs", tidied)
    with folder.spool() as scratch:
        assert Path(scratch).is_dir()
