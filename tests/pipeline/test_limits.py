"""Places that take nothing: full, forbidden, or gone while a job runs. A reason, and nothing half."""

from __future__ import annotations

import errno
import os
import resource
import signal
import zlib
from dataclasses import dataclass

import pytest

from pipeline.audit import verify
from pipeline.dataset.reader import Dataset
from pipeline.errors import JobFailed, TargetNotWritable
from pipeline.rates import truncate
from pipeline.restore import decompress
from pipeline.run import compress
from pipeline.stores.storage import Folder
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec
from tests.pipeline.test_run import parts, red, run, statuses


@pytest.fixture
def source(tmp_path):
    make_images(tmp_path / "src", 20)
    make_dataset(tmp_path / "src", tmp_path / "undisturbed")
    return tmp_path / "src"


@dataclass(frozen=True)
class Cramped(FakeCodec):
    """Its process cannot write files of more than ``most`` bytes: the system refuses, in the middle of a part."""

    most: int = 4096

    def load(self, request, threads=None):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, resource.RLIM_INFINITY))
        return super().load(request, threads)


def test_a_disk_that_takes_no_whole_part(ray_session, source, tmp_path):
    with pytest.raises(JobFailed, match="File too large"):
        run(source, tmp_path / "ds", codec=Cramped())
    assert not list((tmp_path / "ds").glob("*.parquet"))
    assert verify(str(tmp_path / "ds")).parts == 0
    assert run(source, tmp_path / "ds", resume=True).exit_code == 0
    assert parts(tmp_path / "ds") == parts(tmp_path / "undisturbed")


def test_truncating_and_decoding_onto_a_full_disk(source, tmp_path, monkeypatch):
    dataset, link, linked = str(tmp_path / "undisturbed"), os.link, []

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def nearly_full(*args):
        linked.append(args)
        return full() if len(linked) > 5 else link(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", nearly_full)
        with pytest.raises(JobFailed, match=r"No space left .* --resume"):
            truncate(dataset, str(tmp_path / "small"), tier=0)
    assert 0 < len(list((tmp_path / "small").glob("*.parquet"))) < 5
    assert all("has no marker" in problem["error"] for problem in verify(str(tmp_path / "small")).problems)
    truncate(dataset, str(tmp_path / "small"), tier=0, resume=True)
    assert verify(str(tmp_path / "small")).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            decompress(dataset, str(tmp_path / "out"), codec=FakeCodec())
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_forbidden_target_and_a_forbidden_input(source, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(TargetNotWritable, match="Permission denied"):
        compress(str(source), str(tmp_path / "locked" / "ds"))
    (source / "img0003.png").chmod(0)
    make_dataset(source, tmp_path / "ds")
    assert {i for i, s in statuses(tmp_path / "ds").items() if s == "permission_denied"} == {"img0003.png"}


def test_a_target_that_becomes_forbidden(source, tmp_path, monkeypatch):
    """Refused at once, and not tried again: what is forbidden stays so."""
    calls = []

    def forbidden(self, name, local):
        calls.append(name)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    dataset = str(tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "create_from", forbidden)
        with pytest.raises(TargetNotWritable, match="Permission denied"):
            truncate(dataset, str(tmp_path / "small"), tier=0)
    assert len(calls) == 1


def test_hostile_files_in_one_job(ray_session, source, tmp_path):
    """Every input its row and its typed reason, whatever its neighbours are."""
    first = (source / "img0000.png").read_bytes()
    huge = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + first[24:29]
    wrong = {
        "empty.png": (b"", "empty_file"),
        "text.jpg": (b"hello", "unknown_format"),
        "header.jpg": (b"\xff\xd8 nothing", "broken_image"),
        "cut.png": (first[: len(first) // 2], "truncated_image"),
        "bomb.png": (first[:12] + huge + zlib.crc32(huge).to_bytes(4, "big") + first[33:], "too_many_pixels"),
    }
    for name, (data, _) in wrong.items():
        (source / name).write_bytes(data)
    (source / "gone.png").symlink_to(source / "nowhere")
    red(source / "z.png", 7)
    result = run(source, tmp_path / "ds")
    found = statuses(tmp_path / "ds")
    assert (len(found), result.exit_code) == (27, 1)
    expected = {name: code for name, (_, code) in wrong.items()} | {"gone.png": "not_found"}
    assert {name: code for name, code in found.items() if code != "ok"} == expected
    rows = Dataset.open(str(tmp_path / "ds")).arrow().to_table(columns=["status", "error"]).to_pylist()
    assert all((row["error"] is None) == (row["status"] == "ok") for row in rows)
