"""How far a verb is: a bar on a terminal; elsewhere, for logs, a line now and then."""

from __future__ import annotations

import copy
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from jobs.words import clock, counted

if TYPE_CHECKING:
    from pipeline.dataset.results import Tally

PROGRESS_VARIABLE = "PSC_PROGRESS_SECONDS"
"""Environment variable: where stderr is no terminal, say so often on it how far a job is; 0 for never. Where it is set,
the first and the last figures are said as well.
"""
_EVERY = 60.0


def progress_line(found: dict[str, Any]) -> str:
    """Figures of a :class:`pipeline.dataset.progress.Progress` in one line."""
    parts = [f"{found['rows']}/{counted(found['items'], 'image')}"]
    if not found["complete"]:
        rate, eta = found["images_per_second"], found["eta_seconds"]
        parts += ["… images/s, ETA …" if rate is None else f"{rate:.3g} images/s, ETA {clock(eta)}"]
    parts += [] if found["bpp"] is None else [f"{found['bpp']:.3f} bpp"]
    parts += [f"{sum(found['failed'].values())} failed"]
    if found["complete"]:
        return ", ".join([*parts, "complete"])
    silent = found["seconds_since_commit"]
    parts += (
        ["no commit yet"] if not found["committed"] else [] if silent is None else [f"last commit {clock(silent)} ago"]
    )
    return ", ".join(parts)


@contextmanager
def bar(unit: str, total: int | None = None) -> Iterator[Any]:
    """A tqdm bar on stderr, or :class:`Count` in lines where that is no terminal."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True) as shown:
            yield shown
        return
    count = Count(unit, total)
    with _lines(count.line):
        yield count


@contextmanager
def counting(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar, or lines, for work that says how much of it is done, and how much there is in all; of work that first says
    that nothing is, the clock begins there.
    """
    with bar(unit) as shown:

        def follow(done: int, total: int) -> None:
            if not done:
                shown.reset(total=total)
            shown.total = total
            shown.update(done - shown.n)

        yield follow


class Count:
    """What a bar is told, of a tqdm bar's methods those that the verbs use."""

    def __init__(self, unit: str, total: int | None = None) -> None:
        self.unit, self.total, self.n = unit, total, 0
        self._began, self._note = time.monotonic(), ""

    def update(self, count: int = 1) -> None:
        self.n += count

    def reset(self, total: int | None = None) -> None:
        self.total, self.n, self._began = total, 0, time.monotonic()

    def set_postfix_str(self, note: str) -> None:
        self._note = note

    def line(self) -> str:
        """For instance ``12/40 parts, 0.31/s, ETA 1m30s``; empty while there is nothing to count."""
        n, total, seconds = self.n, self.total, time.monotonic() - self._began
        if not n and not total:
            return ""
        parts = [counted(n, self.unit) if total is None else f"{n}/{counted(total, self.unit)}"]
        if not n:
            parts.append(f"{clock(seconds)} so far")
        elif n != total:
            parts.append(f"{n / max(seconds, 1e-3):.3g}/s")
            parts += [] if total is None else [f"ETA {clock(seconds * (total - n) / n)}"]
        return ", ".join([*parts, *([self._note] if self._note else [])])


@contextmanager
def tally_bar() -> Iterator[Callable[[Tally], None]]:
    """Follows a job's tally: images and their speed, time left, mean rate, failures. A bar, or lines."""
    if not sys.stderr.isatty():
        pace = _Pace()
        with _lines(pace.line) as say_first:

            def tell(tally: Tally) -> None:
                pace.follow(tally)
                say_first()

            yield tell
        return
    with bar("img") as shown, _ticking(shown):

        def follow(tally: Tally) -> None:
            if shown.total is None:
                shown.initial = tally.rows
                shown.reset(total=tally.plan.items)
            shown.n = tally.rows
            rate = {} if tally.bpp is None else {"bpp": f"{tally.bpp:.3f}"}
            shown.set_postfix(rate | {"failed": sum(tally.failed.values())})

        yield follow


class _Pace:
    """The last of a job's tallies, and when its rows came."""

    def __init__(self) -> None:
        self._seen: Tally | None = None
        self._commits: list[tuple[float, int]] = []

    def follow(self, tally: Tally) -> None:
        # A copy: the line is written by another thread.
        seen = copy.copy(tally)
        seen.status = tally.status.copy()
        before = self._seen.rows if self._seen else 0
        self._commits = [*self._commits[-100:], (time.monotonic(), tally.rows - before)]
        self._seen = seen

    def line(self) -> str:
        from pipeline.dataset.progress import Progress, pace

        seen, commits, now = self._seen, self._commits, time.monotonic()
        if seen is None:
            return ""
        silent = now - commits[-1][0] if len(commits) > 1 else None
        return progress_line(Progress(seen, pace(commits, now), silent).as_dict())


@contextmanager
def _lines(line: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Says a line on stderr, at most every so many seconds; what is given says it at once, if that is wanted and for
    the first time.
    """
    every, ends = _interval()
    began, done, said = time.monotonic(), threading.Event(), 0

    def say() -> None:
        nonlocal said
        said += 1
        click.echo(line() or f"nothing to count yet, {clock(time.monotonic() - began)} so far", err=True)

    def tick() -> None:
        while not done.wait(every):
            say()

    with _meanwhile(tick, done) if every else nullcontext():
        yield lambda: say() if ends and not said else None
    if line() and (ends or said):
        say()


def _interval() -> tuple[float, bool]:
    """Seconds between two lines, and whether the first and the last are said in any case."""
    given = os.environ.get(PROGRESS_VARIABLE, "")
    try:
        every = float(given or _EVERY)
    except ValueError:
        every = math.nan
    if not 0 <= every <= threading.TIMEOUT_MAX:
        raise click.UsageError(f"{PROGRESS_VARIABLE}={given}: expected a number of seconds, 0 for no lines")
    return every, bool(given) and every > 0


@contextmanager
def _ticking(shown: Any) -> Iterator[None]:
    """The bar's clock goes on between shards."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1.0):
            if shown.total is not None:
                shown.refresh()

    with _meanwhile(tick, done):
        yield


@contextmanager
def _meanwhile(tick: Callable[[], Any], done: threading.Event) -> Iterator[None]:
    """Runs ``tick``, which ends when it is done, in a thread that has nothing left to write afterwards."""
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
