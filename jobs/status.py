"""`psc status`: how far a dataset is, once or live."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from jobs.console import json_option, out_json, size_text, tier_text
from jobs.progress import progress_line
from jobs.words import counted


def status(dataset: str) -> dict[str, Any]:
    """Progress and failures; see :func:`pipeline.dataset.catalog.status`."""
    from pipeline.dataset import catalog

    return catalog.status(dataset)


def watch(dataset: str, seconds: float = 2.0) -> Iterator[dict[str, Any]]:
    """Figures every so many seconds until the dataset is complete, whoever works on it: those of :func:`status`, and
    images_per_second, eta_seconds, seconds_since_commit.
    """
    from pipeline.dataset.progress import Watch
    from pipeline.stores.storage import Folder

    return (seen.as_dict() for seen in Watch(Folder.at(dataset)).until_complete(seconds))


class _Seconds(click.ParamType):
    name = "seconds"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number of seconds: name the dataset first, psc status DATASET --watch")
        if not 0 < seconds < 1e6:
            self.fail(f"{value}: expected a number of seconds above 0")
        return seconds


@click.command()
@click.argument("dataset")
@click.option(
    "--watch",
    "every",
    type=_Seconds(),
    is_flag=False,
    flag_value="2",
    metavar="[SECONDS]",
    help="Look again so often until it is complete: images/s, bpp, ETA, failures.  [2 if none are given]",
)
@json_option
def command(dataset: str, every: float | None, as_json: bool) -> None:
    """Say how far DATASET is and what failed. Reads the commit markers only, also while a job runs on it, in another
    process or on a cluster.

    \b
    Example: psc status archive/
             psc status s3://bucket/archive --watch 10
    """
    if every is not None:
        _follow(dataset, every, as_json)
        return
    found = status(dataset)
    if as_json:
        out_json(found)
        return
    state = "complete" if found["complete"] else "unfinished: its own command with --resume goes on"
    inputs = f"{found['rows']} of {counted(found['items'], 'input')}"
    rate = "" if found["bpp"] is None else f", {found['bpp']:.4g} bpp"
    click.echo(f"{dataset} ({found['kind']} of {found['source']})")
    click.echo(f"{found['committed']} of {counted(found['shards'], 'shard')}, {inputs}; {state}")
    click.echo(f"{counted(found['ok'], 'image')}, {size_text(found['bytes'])}{rate}")
    for code, count in found["failed"].items():
        click.echo(f"{count} failed: {code}")
    click.echo()
    click.echo(tier_text(found["tiers"]))


def _follow(dataset: str, every: float, as_json: bool) -> None:
    """A line that is rewritten on a terminal; elsewhere a line each time."""
    live = not as_json and sys.stdout.isatty()
    for found in watch(dataset, every):
        if as_json:
            click.echo(json.dumps(found))
        else:
            click.echo(f"\r\x1b[K{progress_line(found)}" if live else progress_line(found), nl=not live)
        sys.stdout.flush()
    if live:
        click.echo()
