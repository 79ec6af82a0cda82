"""`psc export`: images of a dataset as standalone .psc files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from jobs.console import exit_with, json_option, out_json, read_ids, size_text
from jobs.progress import counting
from jobs.words import counted


def export(
    dataset: str, out: str, *, ids: Collection[str] | None = None, tier: int | None = None, **options: Any
) -> dict[str, Any]:
    """Write images as ``out``/ID.psc; see :func:`pipeline.export.export` for ``options``."""
    from pipeline import export as exporting

    return exporting.export(dataset, out, ids=ids, tier=tier, **options)


@click.command()
@click.argument("dataset")
@click.argument("out")
@click.option("--ids", multiple=True, metavar="ID,…", help="These images: ids, or @FILE with one a line.")
@click.option("--all", "everything", is_flag=True, help="Every image.")
@click.option("--tier", type=int, metavar="K", help="Tiers 0 to K only.  [default: all]")
@click.option("--overwrite", is_flag=True, help="Replace .psc files that are there.")
@json_option
def command(dataset: str, out: str, ids: tuple[str, ...], everything: bool, as_json: bool, **options: Any) -> None:
    """Write images of DATASET as single .psc files into the folder OUT.

    A .psc file carries its whole header, so it decodes alone; `psc info` and `psc decompress` read it.

    \b
    Example: psc export archive/ out/ --ids cats/one.jpg,cats/two.jpg
    """
    chosen = read_ids(ids)
    if (chosen is None) == (not everything):
        raise click.UsageError("say which images: --ids ID,… or --all")
    with counting("file") as follow:
        figures = export(dataset, out, ids=chosen, progress=follow, **options)
    if as_json:
        out_json(figures)
    else:
        click.echo(f"wrote {counted(figures['written'], 'file')} to {out}, {size_text(figures['bytes'])}")
    exit_with(1 if figures["failed"] else 0)
