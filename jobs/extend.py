"""`psc extend`: a dataset at a higher rate, with its source images at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobs.console import beginning, draining, exit_with, json_option, out_json, summary, workers_options
from jobs.progress import tally_bar
from jobs.words import counted

if TYPE_CHECKING:
    from pipeline.dataset.results import Result


def extend(dataset: str, dest: str, *, source: str, tier: int, **options: Any) -> Result:
    """Write ``dataset`` up to ``tier`` to ``dest``; see :func:`pipeline.extend.extend` for ``options``."""
    from pipeline import extend as extending

    return extending.extend(dataset, dest, source=source, tier=tier, **options)


@click.command()
@click.argument("dataset")
@click.argument("dest")
@click.option("--source", required=True, metavar="SRC", help="The images that DATASET was made of.")
@click.option("--tier", type=int, required=True, metavar="K", help="Write tiers 0 to K.")
@click.option("--prior", metavar="PRIOR", help="Where the prior is, if not under its own name.")
@workers_options
@click.option("--resume", is_flag=True, help="Go on with a DEST that was begun.")
@json_option
def command(dataset: str, dest: str, as_json: bool, **options: Any) -> None:
    """Write DATASET with more tiers to the new dataset DEST; the tiers that it has stay byte for byte.

    The images are encoded again, so this costs what compressing does. An image that is missing in SRC, or is
    another now, keeps its row as it was, with the reason in the column error.

    \b
    Example: psc extend small/ fine/ --source photos/ --tier 5
    """
    with tally_bar() as follow:
        told: dict[str, Any] = {"on_stop": draining, "on_begin": beginning(dest)}
        result = extend(dataset, dest, progress=follow, **told, **options)
    if result.incomplete and not result.interrupted:
        click.echo(f"not extended: {counted(result.incomplete, 'image')}; the column error says why", err=True)
    if as_json:
        out_json(result.as_dict())
    else:
        click.echo(summary(result, "extended"))
    exit_with(result.exit_code)
