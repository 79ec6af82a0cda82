"""What the bars and lines of :mod:`jobs.progress` say, and in which order."""

from __future__ import annotations

import re
import threading
import time
from contextlib import nullcontext
from importlib import import_module

import pytest
from click.testing import CliRunner

from jobs import progress


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
