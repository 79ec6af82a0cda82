"""What the bars and lines of :mod:`jobs.progress` say, and in which order."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from contextlib import nullcontext
from importlib import import_module

import pytest
from click.testing import CliRunner

from jobs import progress, words
from pipeline import export
from pipeline.dataset.reader import Dataset
from pipeline.dataset.results import Tally
from tests.jobs.command import psc
from tests.pipeline.build import plan_dataset, run_shards


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_said_after_the_last_line(capfd, monkeypatch, fails):
    """A line that is under way in the clock's thread when the work ends comes before the last one."""
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, "0.01")
    telling = threading.Event()

    def line():
        if threading.current_thread() is threading.main_thread():
            return "last"
        telling.set()
        time.sleep(0.2)
        return "older"

    with pytest.raises(LookupError) if fails else nullcontext(), progress._lines(line):
        assert telling.wait(10)
        if fails:
            raise LookupError
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == ("older" if fails else "last")
    time.sleep(0.3)
    assert capfd.readouterr().err == ""


def test_the_clock_begins_with_the_work_where_that_says_when(monkeypatch):
    for done, line in ((0, r"1/4 parts, \S+/s, ETA 0s"), (1, r"1/4 parts, \S+/s, ETA 3h00m")):
        shown = progress.Count("part")
        shown._began -= 3600
        monkeypatch.setattr(progress, "bar", lambda unit, shown=shown: nullcontext(shown))
        with progress.counting("part") as count:
            count(done, 4)
            count(1, 4)
        assert re.fullmatch(line, shown.line())


def test_a_report_says_once_what_it_decodes(monkeypatch):
    def reported(dataset, out, *, progress, **options):
        for done in (0, 8, 11):
            progress(done, 11)
        return {"pictures": 0, "originals": 0, "page_bytes": 1}

    monkeypatch.setenv(progress.PROGRESS_VARIABLE, "1000")
    module = import_module("jobs.report")
    monkeypatch.setattr(module, "report", reported)
    said = CliRunner().invoke(module.command, ["ds", "page.html"])
    assert (said.exit_code, said.exception) == (0, None)
    assert said.stderr.splitlines() == [
        "decoding 11 pictures for the gallery (--images 0 does without)",
        "11/11 pictures",
    ]


def test_status_watched_from_another_process(dataset, tmp_path):
    plan, encoder = plan_dataset(os.path.dirname(dataset) + "/src", tmp_path / "ds")
    command = [sys.executable, "-m", "jobs.cli", "status", str(tmp_path / "ds"), "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "0/6 images, … images/s, ETA …, 0 failed, no commit yet\n"
        run_shards(plan, encoder, tmp_path / "ds", [0, 1])
        while not (line := watching.stdout.readline()).startswith("4/6"):
            assert line
        assert re.search(r"4/6 images, \S+ images/s, ETA \S+, \d+\.\d{3} bpp, [01] failed, last commit \d+s ago", line)
        run_shards(plan, encoder, tmp_path / "ds", [2])
        assert watching.communicate(timeout=60)[0].splitlines()[-1].endswith("1 failed, complete")
        assert watching.returncode == 0


def test_status_watched_as_json(capfd, dataset):
    code, out, _ = psc(capfd, "status", dataset, "--watch", "--json")
    (line,) = out.splitlines()
    found = json.loads(line)
    assert code == 0
    assert (found["complete"], found["rows"], found["eta_seconds"], found["failed"]) == (
        True,
        6,
        0,
        {"unknown_format": 1},
    )
    code, _, err = psc(capfd, "status", "--watch", dataset)
    assert (code, "psc status DATASET --watch" in err) == (2, True)


def test_progress_in_lines_where_there_is_no_terminal(capfd, dataset, monkeypatch):
    opened = Dataset.open(dataset)
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, "1000")
    tally = Tally(opened.plan)
    with progress.tally_bar() as follow:
        follow(tally)
        for marker in opened.markers:
            tally.add(marker)
            follow(tally)
    first, last = capfd.readouterr().err.splitlines()
    assert first.startswith("0/6 images, … images/s, ETA …, 0 failed")
    assert re.fullmatch(r"6/6 images, \d\.\d{3} bpp, 1 failed, complete", last)


def test_progress_by_itself_where_there_is_no_terminal(capfd, dataset, monkeypatch):
    """Every verb has it: a line a minute, also while nothing is done; none where the work is short."""
    assert progress._interval() == (60.0, False)
    monkeypatch.setattr(progress, "_EVERY", 0.2)
    opened = Dataset.open(dataset)
    tally = Tally(opened.plan)
    with progress.tally_bar() as follow:
        time.sleep(0.3)
        follow(tally)
        tally.add(opened.markers[0])
        follow(tally)
        time.sleep(0.3)
    first, *others = capfd.readouterr().err.splitlines()
    assert re.fullmatch("nothing to count yet, [01]s so far", first)
    pattern = r"2/6 images, \S+ images/s, ETA \S+, \d\.\d{3} bpp, [01] failed, last commit \ds ago"
    assert len(others) >= 2
    assert all(re.fullmatch(pattern, line) for line in others)
    with progress.counting("part") as count:
        for done in range(4):
            count(done, 3)
            time.sleep(0.15)
    *_, middle, last = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"[12]/3 parts, \S+/s, ETA \ds", middle) or middle == "3/3 parts"
    assert last == "3/3 parts"
    with progress.counting("part") as count:
        count(1, 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("given", ["0", "0.05", "often", "-1", "nan"])
def test_how_often_progress_is_said(capfd, dataset, monkeypatch, given):
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, given)
    slow = export.export

    def export_slowly(*args, **options):
        time.sleep(0.2)
        return slow(*args, **options)

    monkeypatch.setattr("pipeline.export.export", export_slowly)
    code, out, err = psc(capfd, "export", dataset, os.path.dirname(dataset) + f"/out{given}", "--all", "--json")
    if given == "0":
        assert (code, err, len(out.splitlines())) == (0, "", 1)
    elif given == "0.05":
        assert (code, err.splitlines()[-1], len(out.splitlines())) == (0, "5/5 files", 1)
        assert err.startswith("nothing to count yet, 0s so far\n")
    else:
        assert (code, err.startswith(f"psc: PSC_PROGRESS_SECONDS={given}: expected a number")) == (2, True)


def test_the_bar_on_a_terminal(dataset):
    """Read from a real pseudo-terminal: images, speed, time left, rate, failures; its clock goes on by itself."""
    script = (
        "import sys, time\nfrom jobs.progress import tally_bar\nfrom pipeline.dataset.reader import Dataset\n"
        "from pipeline.dataset.results import Tally\nopened = Dataset.open(sys.argv[1])\ntally = Tally(opened.plan)\n"
        "with tally_bar() as follow:\n    follow(tally)\n    tally.add(opened.markers[0])\n    time.sleep(0.3)\n"
        "    follow(tally)\n    time.sleep(2.5)\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    command = [sys.executable, "-c", script, dataset]
    with subprocess.Popen(command, stderr=theirs) as running:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 4096):
                said += chunk
    os.close(ours)
    assert running.returncode == 0
    shown = [s for s in said.decode().split("\r") if "2/6" in s]
    assert re.search(r"2/6 \[\d\d:\d\d<\d\d:\d\d, +\S+(img/s|s/img), bpp=\d\.\d{3}, failed=[01]\]", shown[0]), shown
    assert len({re.search(r"\[(\d\d:\d\d)<", s).group(1) for s in shown}) >= 2


def test_one_is_not_many():
    assert [words.counted(n, "input") for n in (0, 1, 2)] == ["0 inputs", "1 input", "2 inputs"]
    assert words.counted(3, "canvas") == "3 canvases"


def test_durations_for_people():
    assert [words.clock(s) for s in (0.4, 59.4, 60, 187, 3600, 18125, 90000, 273600)] == [
        *("0s", "59s", "1m00s", "3m07s", "1h00m", "5h02m", "1d01h", "3d04h")
    ]
