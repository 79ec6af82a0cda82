"""What all verbs share: bars, tables, and errors in one line."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.results import Result, Tally


PROGRESS_VARIABLE = "PSC_PROGRESS_SECONDS"
"""Environment variable: where there is no terminal for a bar, say so often on stderr how far a job is."""


def options_of(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in their order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


workers_options = options_of(
    click.option("--workers", type=int, metavar="N", help="Actors.  [default: one a GPU, or one a CPU]"),
    click.option("--address", metavar="RAY", help="A Ray cluster.  [default: RAY_ADDRESS, or this machine]"),
)
json_option = click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON object.")


def out_json(figures: dict[str, Any]) -> None:
    """One JSON object, on stdout's last line."""
    click.echo(json.dumps(figures, default=str, ensure_ascii=False))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text, numbers to the right."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    cells = [[cell(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    right = [all(isinstance(row[name], int | float | None) for row in rows) for name in names]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), line(["-" * w for w in widths]), *map(line, cells)])


def cell(value: Any) -> str:
    """One value of a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = str(value).replace("\n", " ")
    return text if len(text) <= 80 else text[:77] + "..."


def size_text(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def clock(seconds: float) -> str:
    """A duration for people: 42s, 3m07s, 5h02m, 3d04h."""
    minutes, sec = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    return f"{hours}h{minute:02d}m" if hours else f"{minutes}m{sec:02d}s" if minutes else f"{sec}s"


def progress_line(found: dict[str, Any]) -> str:
    """Figures of a :class:`pipeline.progress.Progress` in one line."""
    parts = [f"{found['rows']}/{found['items']} images"]
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


def tier_text(tiers: Sequence[dict[str, Any]]) -> str:
    """A tally's tier table."""
    shown = [
        {
            "tier": t["tier"],
            "images": t["images"],
            "size": size_text(t["bytes"]),
            "bpp up to it": t["bpp"],
            "mean PSNR dB": t["psnr"],
        }
        for t in tiers
    ]
    return table(shown)


def summary(result: Result, verb: str) -> str:
    """The last words of a job over a dataset."""
    tally = result.tally
    rate = "" if tally.bpp is None else f", {tally.bpp:.4g} bpp"
    figures = f"{size_text(tally.bytes)}{rate}, {result.seconds:.1f} s"
    lines = [f"{verb} {tally.ok} images into {result.dataset}: {figures}"]
    if tally.failed:
        kinds = ", ".join(f"{n} {code}" for code, n in tally.failed.items())
        lines.append(f"{sum(tally.failed.values())} inputs have no stream: {kinds}")
    return "\n".join([*lines, "", tier_text(tally.tier_table())])


@contextmanager
def bar(unit: str, total: int | None = None) -> Iterator[Any]:
    """A tqdm bar on stderr; none where stderr is no terminal."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, file=sys.stderr, disable=None, dynamic_ncols=True) as shown:
        yield shown


@contextmanager
def tally_bar() -> Iterator[Callable[[Tally], None]]:
    """A bar that follows a job's tally: images and their speed, time left, mean rate, failures.

    Where stderr is no terminal, and PROGRESS_VARIABLE says how often, lines instead.
    """
    every = os.environ.get(PROGRESS_VARIABLE)
    if every and not sys.stderr.isatty():
        yield _lines(float(every))
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


@contextmanager
def _ticking(shown: Any) -> Iterator[None]:
    """The bar's clock goes on between shards."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1.0):
            if shown.total is not None:
                shown.refresh()

    if not shown.disable:
        threading.Thread(target=tick, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _lines(every: float) -> Callable[[Tally], None]:
    """Says on stderr how far a job is, at most every so many seconds, and at its end."""
    from pipeline.progress import Progress, pace

    commits: list[tuple[float, int]] = []
    said = 0.0
    rows = 0

    def follow(tally: Tally) -> None:
        nonlocal said, rows
        now = time.monotonic()
        commits.append((now, tally.rows - rows))
        rows = tally.rows
        seen = Progress(tally, pace(commits, now))
        if seen.complete or now - said >= every:
            click.echo(progress_line(seen.as_dict()), err=True)
            said = now

    return follow


def read_ids(given: Sequence[str]) -> list[str] | None:
    """Ids from ``--ids``: repeated, separated by commas, or ``@FILE`` with one a line. None if there are
    none.
    """
    ids: list[str] = []
    for text in given:
        if text.startswith("@"):
            try:
                with open(text[1:], encoding="utf-8") as file:
                    ids += [line.rstrip("\n") for line in file if line.strip()]
            except OSError as error:
                raise click.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="--ids") from None
        else:
            ids += [part for part in text.split(",") if part]
    return list(dict.fromkeys(ids)) or None


def draining() -> None:
    """What is said when Ctrl-C is first pressed."""
    click.echo("\nfinishing the shards under way; Ctrl-C again to leave at once", err=True)


def exit_with(code: int) -> None:
    """End the command with this status."""
    raise SystemExit(code)
