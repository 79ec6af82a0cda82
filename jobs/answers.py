"""What `psc query` prints or writes: a table, CSV, JSON lines or Parquet, from an Arrow schema and record batches of it
as they come.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from jobs.console import grid

_GROUP_BYTES = 64 * 1024 * 1024
_GROUP_ROWS = 131_072


def write_table(schema: Any, batches: Iterable[Any], sink: BinaryIO) -> None:
    """Aligned text; its widths need all rows at once."""
    sink.write(f"{grid(schema.names, list(_rows(batches)))}\n".encode())


def write_csv(schema: Any, batches: Iterable[Any], sink: BinaryIO) -> None:
    """A line of names, then a line a row: null is empty, bytes are in hexadecimal."""
    text = io.TextIOWrapper(sink, "utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(schema.names)
        for batch in batches:
            writer.writerows(["" if v is None else _hex(v) for v in row] for row in _rows([batch]))
    finally:
        text.detach()


def write_json(schema: Any, batches: Iterable[Any], sink: BinaryIO) -> None:
    """One object a line."""
    for row in objects(schema.names, batches):
        sink.write(f"{json.dumps(row, default=str, ensure_ascii=False, allow_nan=False)}\n".encode())


def write_parquet(schema: Any, batches: Iterable[Any], sink: BinaryIO) -> None:
    """Row groups bounded in bytes and rows. Raises :class:`BadRequest` for a type that Parquet has not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.errors import BadRequest

    try:
        writer = pq.ParquetWriter(sink, schema)
    except pa.ArrowNotImplementedError as error:
        raise BadRequest(f"{error}: cast that column, as in i::varchar") from None
    with writer:
        for group in _groups(batches):
            writer.write_table(group)


_Writer = Callable[[Any, Iterable[Any], BinaryIO], None]
WRITERS: dict[str, _Writer] = {"table": write_table, "csv": write_csv, "json": write_json, "parquet": write_parquet}
NAMED = ("json", "parquet")
"""Formats that know a value by its column's name."""


def objects(names: list[str], batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Rows that JSON can hold: bytes in hexadecimal, null for the numbers that it has not (NaN, infinities)."""
    for row in _rows(batches):
        yield dict(zip(names, map(plain, row), strict=True))


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return _hex(value)


def repeated(names: Sequence[str]) -> list[str]:
    """Names that more than one column has."""
    return [name for name, count in Counter(names).items() if count > 1]


def _rows(batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """By place, not by name: two columns may have one name."""
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _hex(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _groups(batches: Iterable[Any]) -> Iterator[Any]:
    import pyarrow as pa

    held: list[Any] = []
    for batch in batches:
        held.append(batch)
        if sum(b.nbytes for b in held) >= _GROUP_BYTES or sum(b.num_rows for b in held) >= _GROUP_ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)
