"""`psc verify`: are all bytes still what was committed?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.console import exit_with, json_option, out_json
from jobs.progress import counting
from jobs.words import counted

if TYPE_CHECKING:
    from pipeline.audit import Audit


def verify(dataset: str, **options) -> Audit:
    """Check a dataset; see :func:`pipeline.audit.verify` for ``options``."""
    from pipeline import audit

    return audit.verify(dataset, **options)


@click.command()
@click.argument("dataset")
@click.option("--deep", type=int, default=0, metavar="N", help="Also decode N images and compare decoder states.")
@click.option("--prior", metavar="PRIOR", help="For --deep: where the prior is, if not under its own name.")
@json_option
def command(dataset: str, deep: int, prior: str | None, as_json: bool) -> None:
    """Check the sha256 of every part of DATASET and the checksums of every stream.

    Exit status 0 if all is well and the dataset is complete, 1 otherwise.

    \b
    Example: psc verify archive/ --deep 10
    """
    with counting("check") as follow:
        result = verify(dataset, deep=deep, prior=prior, progress=follow)
    for problem in result.problems[:20]:
        click.echo(f"{problem['where']}: {problem['error']}", err=True)
    if as_json:
        out_json(result.as_dict())
    else:
        parts, rows, streams = (counted(getattr(result, f"{unit}s"), unit) for unit in ("part", "row", "stream"))
        checked = f"{parts}, {rows}, {streams}"
        checked += f", {result.decoded} decoded" if deep else ""
        found = counted(result.found, "problem") if result.found else "all well"
        click.echo(f"{checked}: {found}{'' if result.complete else '; the dataset is not complete'}")
    exit_with(result.exit_code)
