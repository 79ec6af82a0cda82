"""`psc retry`: the failed inputs of a dataset again."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import click

from jobs.console import draining, exit_with, json_option, out_json, summary, workers_options
from jobs.progress import tally_bar
from jobs.words import counted

if TYPE_CHECKING:
    from pipeline.dataset.results import Result


def retry(dataset: str, *, status: Collection[str] | None = None, **options: Any) -> Result:
    """Encode the failed inputs of ``dataset`` again; see :func:`pipeline.retry.retry` for ``options``."""
    from pipeline import retry as retrying

    return retrying.retry(dataset, status=status, **options)


@click.command()
@click.argument("dataset")
@click.option("--status", multiple=True, metavar="CODE", help="Only inputs that failed so; repeat.  [default: all]")
@click.option("--prior", metavar="PRIOR", help="Where the prior is, if not under its own name.")
@workers_options
@json_option
def command(dataset: str, status: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Try the failed inputs of DATASET again, with the source as it is now.

    Only rows of failed inputs change. A row that recovers is what it would have been at once.

    \b
    Example: psc retry archive/
             psc retry s3://bucket/archive --status io_error --status not_found
    """
    with tally_bar() as follow:
        result = retry(dataset, status=status or None, progress=follow, on_stop=draining, **options)
    if result.interrupted:
        click.echo("stopped; the same command goes on", err=True)
    if as_json:
        out_json(result.as_dict())
    else:
        click.echo(f"{counted(result.notes['retried'], 'failed input')} tried again")
        click.echo(summary(result, "recovered"))
    exit_with(result.exit_code)
