"""`psc truncate`: a dataset at a lower rate, by moving bytes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.console import beginning, exit_with, json_option, out_json, summary
from jobs.progress import tally_bar
from jobs.words import counted

if TYPE_CHECKING:
    from pipeline.dataset.results import Result


def truncate(dataset: str, dest: str, **options) -> Result:
    """Write ``dataset`` at a lower rate to ``dest``; see :func:`pipeline.rates.truncate` for ``options``."""
    from pipeline import rates

    return rates.truncate(dataset, dest, **options)


@click.command()
@click.argument("dataset")
@click.argument("dest")
@click.option("--tier", type=int, metavar="K", help="Keep tiers 0 to K.")
@click.option("--bpp", type=float, metavar="F", help="Cut each stream at its last cut of at most F bits a pixel.")
@click.option("--resume", is_flag=True, help="Go on with a DEST that was begun.")
@json_option
def command(dataset: str, dest: str, as_json: bool, **options) -> None:
    """Write DATASET at a lower rate to the new dataset DEST: by tier, or by budget.

    Needs neither the model nor a GPU, and runs about as fast as copying. A budget counts what an image's row
    stores (its header and its tiers). DEST decodes like DATASET at that tier or rate.

    \b
    Example: psc truncate archive/ small/ --tier 1
             psc truncate s3://bucket/archive s3://bucket/small --bpp 0.25
    """
    with tally_bar() as follow:
        result = truncate(dataset, dest, progress=follow, on_begin=beginning(dest), **options)
    if empty := result.notes["without_tiers"]:
        click.echo(f"no cut below the budget, so no tier is kept: {counted(empty, 'image')}", err=True)
    if as_json:
        out_json(result.as_dict())
    else:
        click.echo(summary(result, "wrote"))
    exit_with(result.exit_code)
