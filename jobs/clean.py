"""`psc clean`: leftovers of killed workers and drivers."""

from __future__ import annotations

from typing import Any

import click

from jobs.console import json_option, out_json, size_text
from jobs.words import counted


def clean(dataset: str, **options: Any) -> dict[str, Any]:
    """Remove leftovers from ``dataset``; see :func:`pipeline.clean.clean` for ``options``."""
    from pipeline import clean as cleaning

    return cleaning.clean(dataset, **options)


@click.command()
@click.argument("dataset")
@click.option("--older-than", type=float, default=24.0, show_default=True, metavar="HOURS", help="Leave what is newer.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def command(dataset: str, as_json: bool, **options: Any) -> None:
    """Remove from DATASET what killed workers and drivers left: files in the making, unfinished uploads.

    Nothing committed goes, and nothing that --resume would use. A leftover is told by its age from what a
    running job is writing: give a small one only when no job runs.

    \b
    Example: psc clean archive/ --dry-run
             psc clean archive/ --older-than 0
    """
    found = clean(dataset, **options)
    if as_json:
        out_json(found)
        return
    for name in found["leftovers"]:
        click.echo(name)
    said = "would remove" if options["dry_run"] else "removed"
    click.echo(f"{said} {counted(len(found['leftovers']), 'leftover')}, {size_text(found['bytes'])}")
