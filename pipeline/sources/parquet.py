"""Rows of a Parquet file with an image column, as Hugging Face datasets and many archives keep them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import SourceNotFound
from pipeline.sources.item import Item

COLUMNS = ("image", "jpg", "png", "webp", "bytes", "content", "image_bytes")
"""Names under which the image is looked for, in this order: binary, or a struct with a binary field
``bytes``.
"""


def expand(fs: Any, file: Item) -> Iterator[Item]:
    """One item a row, named by its number; ``inner`` is ``group:row``. Sizes are not known before reading."""
    with fs.open(file.path, "rb") as raw:
        try:
            parquet = pq.ParquetFile(raw)
        except pa.ArrowInvalid as error:
            raise SourceNotFound(f"{file.path}: not a Parquet file ({error})") from None
        _column(parquet, file.path)
        number = 0
        for group in range(parquet.num_row_groups):
            for row in range(parquet.metadata.row_group(group).num_rows):
                yield Item(f"{file.id}/{number:09d}", file.path, -1, file.version, f"{group}:{row}")
                number += 1


def read(fs: Any, item: Item) -> bytes:
    """The row's image bytes; empty for a null."""
    group, row = map(int, item.inner.split(":"))
    value = _column_of_group(fs, item.path, item.version, group)[row].as_py()
    return value or b""


# A shard's rows lie side by side: the last groups read serve the whole shard.
@lru_cache(maxsize=2)
def _column_of_group(fs: Any, path: str, version: str, group: int) -> pa.ChunkedArray:
    with fs.open(path, "rb") as raw:
        parquet = pq.ParquetFile(raw)
        name = _column(parquet, path)
        values = parquet.read_row_group(group, columns=[name]).column(name.split(".")[0])
    if pa.types.is_struct(values.type):
        values = pa.chunked_array([chunk.field("bytes") for chunk in values.chunks])
    return values


def _column(parquet: pq.ParquetFile, path: str) -> str:
    schema = parquet.schema_arrow
    for name in COLUMNS:
        index = schema.get_field_index(name)
        if index < 0:
            continue
        kind = schema.field(index).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return name
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return f"{name}.bytes"
    raise SourceNotFound(f"{path}: no image column; looked for {', '.join(COLUMNS)} of type binary or struct<bytes>")
