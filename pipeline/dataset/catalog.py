"""Ask a dataset questions in SQL, or in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

import psc_core
from pipeline.dataset.plan import PLAN
from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import OK, payload_names
from pipeline.errors import BadRequest, NotADataset
from pipeline.stores.reach import reaching
from pipeline.stores.storage import Folder
from psc_core.coding.condition import condition_bits

_ROWS = 2048
VIEWS = {
    "images": "one row an input: status, error, facts of the source, size, rate; no payload",
    "tiers": "one row an image and tier: its bytes, the bytes and bpp up to it, psnr, ssim",
    "failures": "the inputs whose status is not ok: image_id, status, error, attempts, source",
    "streams": "everything, payload columns too",
}


def query(dataset: str, sql: str) -> pa.Table:
    """The result of a DuckDB query, as an Arrow table. The views are those of ``VIEWS``; committed rows only.

    Raises:
        NotADataset: see :meth:`Dataset.open`.
        BadRequest: DuckDB refuses the query.
    """
    with _asked(dataset, sql) as found:
        return found.to_arrow_table()


@contextmanager
def answer(dataset: str, sql: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """:func:`query` as it comes: the schema, and record batches, which are not held."""
    with _asked(dataset, sql) as found:
        reader = found.to_arrow_reader(_ROWS)
        yield reader.schema, _batches(reader)


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Raises :class:`BadRequest` for what DuckDB meets in the middle."""
    try:
        yield from reader
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise BadRequest(str(error).strip()) from None


@contextmanager
def _asked(dataset: str, sql: str) -> Iterator[Any]:
    """A query that DuckDB accepts, not yet carried out."""
    import duckdb

    with connected(Dataset.open(dataset)) as connection:
        try:
            found = connection.sql(sql)
            if found is None:
                raise BadRequest("that statement returns no rows; psc query is for select statements")
            yield found
        except duckdb.Error as error:
            raise BadRequest(f"{str(error).strip()} (views: {', '.join(VIEWS)})") from None


@contextmanager
def connected(opened: Dataset) -> Iterator[Any]:
    """A DuckDB connection that has the ``VIEWS`` of a dataset."""
    import duckdb

    connection = duckdb.connect()
    try:
        connection.register("streams", opened.arrow())
        hidden = ", ".join(payload_names(opened.tiers))
        connection.execute(f"create view images as select * exclude (image_header, {hidden}) from streams")
        connection.execute(f"create view tiers as {_tiers_view(opened.tiers)}")
        connection.execute(
            "create view failures as select image_id, status, error, attempts, format, source_bytes, source "
            f"from streams where status <> '{OK}'"
        )
        yield connection
    finally:
        connection.close()


def _tiers_view(tiers: int) -> str:
    selects = []
    for k in range(tiers):
        so_far = " + ".join(["octet_length(image_header)", *(f"coalesce(t{j}_bytes, 0)" for j in range(k + 1))])
        selects.append(
            f"select image_id, {k} as tier, t{k}_bytes as bytes, {so_far} as bytes_up_to, "
            f"8.0 * ({so_far}) / (width::bigint * height) as bpp, t{k}_psnr as psnr, t{k}_ssim as ssim, "
            f"len(t{k}_cuts) as cuts from streams where t{k}_bytes is not null"
        )
    return " union all ".join(selects)


def status(dataset: str) -> dict[str, Any]:
    """How far a dataset is: one listing and the markers, no part. Raises :class:`NotADataset`."""
    opened = Dataset.open(dataset)
    plan = opened.plan
    state = {"dataset": dataset, "kind": plan.kind, "source": plan.source, "complete": opened.complete}
    return state | opened.tally().as_dict()


def info(path: str) -> dict[str, Any]:
    """What a ``.psc`` file or a dataset is.

    Raises:
        NotADataset: neither of them.
        StreamError: a file that is no whole stream.
    """
    folder = Folder.at(path)
    with reaching(path):
        is_folder = folder.exists(PLAN) or not folder.exists() or folder.fs.isdir(folder.path)
    if is_folder:
        return _dataset_info(Dataset.open(path))
    data = folder.fs.cat_file(folder.path)
    if data[:4] == b"PAR1":
        raise NotADataset(f"{path} is one part of a dataset: give the folder that it is in")
    return _file_info(path, data)


def _dataset_info(opened: Dataset) -> dict[str, Any]:
    about = {"dataset": opened.folder.url, "fingerprint": opened.plan.fingerprint} | _shared(opened.plan.shared)
    return about | {"params": opened.plan.params} | status(opened.folder.url)


def _file_info(path: str, data: bytes) -> dict[str, Any]:
    stream = psc_core.Stream.from_bytes(data)
    so_far = stream.nbytes - sum(len(t.data) for t in stream.tiers)
    tiers = []
    for k, tier in enumerate(stream.tiers):
        so_far += len(tier.data)
        bpp = 8 * so_far / (stream.width * stream.height)
        tiers.append({"tier": k, "bytes": len(tier.data), "bytes_up_to": so_far, "bpp": bpp, "cuts": list(tier.cuts)})
    size = {"height": stream.height, "width": stream.width, "channels": stream.channels}
    given = {"condition": stream.condition, "condition_bits": condition_bits(stream.condition)}
    head = {"file": path, "bytes": stream.nbytes, "bpp": stream.bpp} | size
    head |= given if stream.condition is not None else {}
    return head | _shared(stream.shared.to_json()) | {"tiers": tiers}


def _shared(raw: str) -> dict[str, Any]:
    shared = json.loads(raw)
    profile = shared.pop("profile")
    overrides = {k: v for k, v in profile.items() if k != "name"}
    return shared | {"profile": profile["name"], "overrides": overrides}
