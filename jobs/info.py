"""`psc info`: what a .psc file or a dataset is."""

from __future__ import annotations

from typing import Any

import click

from jobs.console import cell, json_option, out_json, size_text, table, tier_text

_NAMES = {"nfe": "network calls"}


def info(path: str) -> dict[str, Any]:
    """What a file or a dataset is; see :func:`pipeline.dataset.catalog.info`."""
    from pipeline.dataset import catalog

    return catalog.info(path)


@click.command()
@click.argument("path", metavar="FILE|DATASET")
@json_option
def command(path: str, as_json: bool) -> None:
    """Say what a .psc file or a dataset is: sizes, rates, profile, prior.

    \b
    Example: psc info one.psc
             psc info archive/ --json
    """
    found = info(path)
    if as_json:
        out_json(found)
        return
    tiers = found.pop("tiers")
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        if value not in (None, ""):
            click.echo(f"{_NAMES.get(name, name):>18}  {size_text(value) if name == 'bytes' else cell(value)}")
    click.echo()
    if "file" in found:
        click.echo(table([{k: v for k, v in t.items() if k != "cuts"} | {"cut points": len(t["cuts"])} for t in tiers]))
        click.echo("\ncut points: where the stream may be cut, and what is before still decodes")
    else:
        click.echo(tier_text(tiers))
