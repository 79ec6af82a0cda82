"""`psc status`: how far a dataset is."""

from __future__ import annotations

from typing import Any

import click

from jobs.console import json_option, out_json, size_text, tier_text


def status(dataset: str) -> dict[str, Any]:
    """Progress and failures; see :func:`pipeline.catalog.status`."""
    from pipeline import catalog

    return catalog.status(dataset)


@click.command()
@click.argument("dataset")
@json_option
def command(dataset: str, as_json: bool) -> None:
    """Say how far DATASET is and what failed. Reads the commit markers only, also while a job runs.

    \b
    Example: psc status archive/
    """
    found = status(dataset)
    if as_json:
        out_json(found)
        return
    state = "complete" if found["complete"] else "unfinished: its own command with --resume goes on"
    inputs = f"{found['rows']} of {found['items']} inputs"
    rate = "" if found["bpp"] is None else f", {found['bpp']:.4g} bpp"
    click.echo(f"{dataset} ({found['kind']} of {found['source']})")
    click.echo(f"{found['committed']} of {found['shards']} shards, {inputs}; {state}")
    click.echo(f"{found['ok']} images, {size_text(found['bytes'])}{rate}")
    for code, count in found["failed"].items():
        click.echo(f"{count} failed: {code}")
    click.echo()
    click.echo(tier_text(found["tiers"]))
