"""`psc query`: SQL over a dataset."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import click

from jobs.answers import NAMED, WRITERS, objects, repeated
from jobs.console import out_json


def query(dataset: str, sql: str) -> Any:
    """An Arrow table; see :func:`pipeline.dataset.catalog.query`."""
    from pipeline.dataset import catalog

    return catalog.query(dataset, sql)


@click.command()
@click.argument("dataset")
@click.argument("sql")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="json is one object a line; parquet needs --out.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write to this file.  [default: stdout]")
@click.option("--overwrite", is_flag=True, help="Replace the file that --out names.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all rows, on stdout's last line.")
def command(dataset: str, sql: str, form: str, out: str | None, overwrite: bool, as_json: bool) -> None:
    """Run a DuckDB query over the views images, tiers, failures and streams of DATASET.

    \b
    images    one row an input: image_id, status, width, height, bytes, bpp, …
    tiers     one row an image and tier: bytes, bytes_up_to, bpp, psnr, ssim
    failures  the inputs without a stream, and why
    streams   everything, payloads too

    \b
    Example: psc query archive/ "select status, count(*) from images group by 1"
             psc query archive/ "from tiers where bpp < 0.1" --format csv
    """
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out FILE")
    if as_json and (out is not None or form != "table"):
        raise click.UsageError("--json prints all rows on stdout: leave out --out and --format, or --json")
    if out is not None and os.path.isfile(out) and not overwrite:
        raise click.UsageError(f"--out {out} is a file already: give another name, or --overwrite to replace it")
    from pipeline.dataset import catalog

    with catalog.answer(dataset, sql) as (schema, batches):
        if as_json or form in NAMED:
            _check_names(schema.names)
        if as_json:
            out_json({"columns": schema.names, "rows": list(objects(schema.names, batches))})
        elif out is None or out == "-":
            WRITERS[form](schema, batches, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            _write(out, lambda sink: WRITERS[form](schema, batches, sink))


def _check_names(names: list[str]) -> None:
    if double := repeated(names):
        from pipeline.errors import BadRequest

        raise BadRequest(f"two columns are called {double[0]}: give one another name with 'as', or take --format csv")


def _write(out: str, write: Callable[[BinaryIO], None]) -> None:
    """A file that appears whole or not at all; what is there and no plain file, such as a pipe, is written to."""
    target = os.path.realpath(out)
    plain = not os.path.exists(target) or os.path.isfile(target)
    passing = f"{target}.{uuid.uuid4().hex[:8]}.tmp" if plain else out
    try:
        try:
            with open(passing, "wb") as sink:
                write(sink)
            if plain:
                os.replace(passing, target)
        finally:
            if plain:
                with suppress(OSError):
                    os.unlink(passing)
    except OSError as error:
        raise click.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from None
