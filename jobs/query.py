"""`psc query`: SQL over a dataset."""

from __future__ import annotations

import io
from typing import Any

import click

from jobs.console import table


def query(dataset: str, sql: str) -> Any:
    """An Arrow table; see :func:`pipeline.catalog.query`."""
    from pipeline import catalog

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
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all rows, on stdout's last line.")
def command(dataset: str, sql: str, form: str, out: str | None, as_json: bool) -> None:
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
    found = query(dataset, sql)
    if as_json:
        from jobs.console import out_json

        out_json({"columns": found.column_names, "rows": _plain(found)})
        return
    data = _rendered(found, form)
    if out is None:
        click.echo(data.decode(), nl=not data.endswith(b"\n"))
        return
    try:
        with click.open_file(out, "wb") as file:
            file.write(data)
    except OSError as error:
        raise click.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from None


def _rendered(found: Any, form: str) -> bytes:
    if form == "parquet":
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(found, sink)
        return sink.getvalue()
    if form == "csv":
        return _csv(found)
    if form == "json":
        import json

        return "".join(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in _plain(found)).encode()
    return (table(found.to_pylist()) + "\n").encode()


def _csv(found: Any) -> bytes:
    import csv

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(found.column_names)
    writer.writerows([["" if v is None else v for v in row.values()] for row in _plain(found)])
    return sink.getvalue().encode()


def _plain(found: Any) -> list[dict[str, Any]]:
    """Rows that JSON can hold: bytes in hexadecimal."""
    return [{k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()} for row in found.to_pylist()]
