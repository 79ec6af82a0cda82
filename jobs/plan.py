"""`psc plan`: what compressing would do, frozen before anything is encoded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from jobs.compress import request_of, request_options
from jobs.console import json_option, left_out, out_json, size_text, table
from jobs.words import counted

if TYPE_CHECKING:
    from pipeline.dataset.plan import Plan


def plan(src: str, dataset: str, *, dry_run: bool = False, **options: Any) -> Plan:
    """Freeze the plan of compressing ``src`` into ``dataset``; see :func:`pipeline.run.plan`."""
    from pipeline import run

    return run.plan(src, dataset, request_of(**options), dry_run=dry_run)


@click.command()
@click.argument("src")
@click.argument("dataset")
@request_options
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@json_option
def command(src: str, dataset: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """List SRC and freeze in DATASET what `psc compress` will do with it.

    The fingerprint covers everything that decides the bytes; a job with another one is refused, and the
    differing fields are named. Carry the plan out with the same options: psc compress SRC DATASET --resume.

    \b
    Example: psc plan photos/ archive/ --size 256 --tiers 4
             psc compress photos/ archive/ --size 256 --tiers 4 --resume
    """
    made = plan(src, dataset, dry_run=dry_run, **options)
    if as_json:
        out_json(json.loads(made.to_json()))
        return
    inputs = f"{counted(made.items, 'input')} ({size_text(made.source_bytes)}) in {counted(made.shards, 'shard')}"
    click.echo(f"{made.source}: {inputs}, {counted(made.tiers, 'tier')}")
    for line in left_out(made):
        click.echo(line)
    click.echo(f"fingerprint {made.fingerprint}\n")
    click.echo(table([{"field": k, "value": str(v)} for k, v in sorted(made.fields().items()) if v is not None]))
    if not dry_run:
        click.echo("\nfrozen; the same options run it: psc compress SRC DATASET --resume")
