"""A finished file under its final name, on file systems with and without hard links."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.audit import verify
from pipeline.dataset import plan as planning
from pipeline.extend import extend
from pipeline.rates import truncate
from pipeline.retry import retry
from pipeline.run import compress, plan
from pipeline.stores import exclusive
from pipeline.stores.exclusive import create_once
from pipeline.stores.storage import Folder
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper
from tests.pipeline.test_run import parts


def refused(code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.fixture(params=["links", "renames", "locks"])
def means(request, monkeypatch):
    """Each way in which a file system lets a name be taken once."""
    if request.param != "links":
        monkeypatch.setattr(os, "link", refused(errno.EPERM))
    if request.param == "locks":
        monkeypatch.setattr(exclusive, "_rename_noreplace", refused(errno.EINVAL))
    return request.param


def spooled(folder: Path, content: str) -> Path:
    (folder / "spool").mkdir(exist_ok=True)
    local = folder / "spool" / content
    local.write_text(content)
    return local


def test_a_name_is_taken_once(means, tmp_path):
    target = tmp_path / "part"
    assert create_once(spooled(tmp_path, "first"), target)
    second = spooled(tmp_path, "second")
    assert not create_once(second, target)
    assert (target.read_text(), second.read_text()) == ("first", "second")
    with pytest.raises(FileNotFoundError):
        create_once(tmp_path / "spool" / "gone", tmp_path / "other")


def test_one_of_many_wins(means, tmp_path):
    for number in range(20):
        target, gate, won = tmp_path / f"part-{number}", threading.Barrier(6), []

        def race(name, target=target, gate=gate, won=won):
            local = spooled(tmp_path, name)
            gate.wait()
            if create_once(local, target):
                won.append(name)

        threads = [threading.Thread(target=race, args=(f"{number}-{n}",)) for n in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert [target.read_text()] == won


def test_a_kill_leaves_nothing_or_a_whole_file(means, tmp_path, monkeypatch):
    """Ended right before and right after the name is given: no claim that would keep the next one out."""

    def killed(*args, **kwargs):
        raise SystemExit("killed")

    target = tmp_path / "part"
    given = {"links": "os.link", "renames": "pipeline.stores.exclusive._rename_noreplace", "locks": "os.rename"}[means]
    with monkeypatch.context() as patch:
        patch.setattr(given, killed)
        with pytest.raises(SystemExit):
            create_once(spooled(tmp_path, "first"), target)
    assert not target.exists()
    assert create_once(spooled(tmp_path, "second"), target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "spool"]


@dataclass(frozen=True)
class NoLinks(FakeCodec):
    """Its process finds no hard links."""

    def load(self, request, threads=None):
        os.link = refused(errno.EPERM)
        return super().load(request, threads)


def test_every_verb_that_commits_without_hard_links(ray_session, tmp_path, monkeypatch):
    """And in a folder whose name reads like a pattern: verbs, workers and checks alike."""
    here = tmp_path / "a[1]*?"
    make_images(here / "src", 6)
    (here / "src" / "img0005.png").rename(here / "late.png")
    (here / "src" / "img0005.png").write_bytes(b"no")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refused(errno.EPERM))
        source, target = str(here / "src"), str(here / "ds")
        options = {"codec": NoLinks(), "workers": 1}
        plan(source, target, paper(overrides={"tiers": 2}), codec=FakeCodec())
        compress(source, target, paper(overrides={"tiers": 2}), resume=True, **options)
        assert verify(target).exit_code == 0
        truncate(target, str(here / "small"), tier=0)
        again = extend(str(here / "small"), str(here / "high"), source=source, tier=1, prior="fake", **options)
        assert (again.exit_code, again.notes) == (0, {"not_extended": 0})
        assert verify(str(here / "high")).exit_code == 0
        shutil.copy(here / "late.png", here / "src" / "img0005.png")
        assert retry(target, prior="fake", **options).notes == {"retried": 1, "recovered": 1}
        assert verify(target).exit_code == 0
        truncate(target, str(here / "small2"), tier=0)
        assert verify(str(here / "small2")).exit_code == 0
    make_dataset(here / "src", tmp_path / "plain", paper(overrides={"tiers": 2}))
    assert len(parts(here / "ds")) == len(parts(tmp_path / "plain")) > 1
    assert not list(here.rglob("*.tmp"))


def test_a_dataset_on_another_disk_than_the_listing(tmp_path, monkeypatch):
    """What is made in the temporary folder is copied over, and created there once."""
    link, renamed = os.link, []

    def across(local, target):
        if Path(local).is_relative_to(tmp_path):
            return link(local, target)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def across_too(local, target):
        renamed.append(target)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    make_images(tmp_path / "src", 4)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-scratch"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.setattr(os, "link", across)
    monkeypatch.setattr(exclusive, "_rename_noreplace", across_too)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    assert len(renamed) == 1
    run_shards(plan, encoder, tmp_path / "ds")
    assert verify(str(tmp_path / "ds")).exit_code == 0
    # Another driver with the same listing joins.
    folder = Folder.at(tmp_path / "ds")
    listing = elsewhere / "listing"
    listing.write_bytes(folder.read(plan.items_file))
    assert planning.freeze(folder, plan, listing) == plan


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second file system at hand")
def test_a_dataset_on_another_disk_indeed(tmp_path):
    make_images(tmp_path / "src", 4)
    other = Path("/dev/shm") / f"psc-test-{os.getpid()}"
    try:
        make_dataset(tmp_path / "src", other)
        assert verify(str(other)).exit_code == 0
    finally:
        shutil.rmtree(other, ignore_errors=True)
