"""Rows of a Parquet file with an image column, as Hugging Face datasets and many archives keep them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CannotUnpack
from pipeline.sources.container import Contents, SidecarOnly
from pipeline.sources.item import Item

COLUMNS = ("image", "jpg", "png", "webp", "bytes", "content", "image_bytes")
"""Names under which the image is looked for, in this order: binary, or a struct with a binary field
``bytes``.
"""


def expand(fs: Any, file: Item) -> Contents:
    """One item a row, named by its number; ``inner`` is ``group:row``. Sizes are not known before reading.

    Raises:
        SidecarOnly: it has no image column.
    """
    with fs.open(file.path, "rb") as raw:
        try:
            parquet = pq.ParquetFile(raw)
            _column(parquet, file.path)
        except (pa.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and not _of_content(error):
                raise
            return Contents((), CannotUnpack(f"{file.path}: not a Parquet file ({error})"))
        groups = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
    places = ((group, row) for group, rows in enumerate(groups) for row in range(rows))
    return Contents(
        Item(f"{file.id}/{number:09d}", file.path, -1, file.version, f"{group}:{row}")
        for number, (group, row) in enumerate(places)
    )


def _of_content(error: OSError) -> bool:
    """Whether it is what Arrow says of what it read, and not the store that says why it cannot be read."""
    return type(error) is OSError and error.errno is None


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
    raise SidecarOnly(f"{path}: no image column; looked for {', '.join(COLUMNS)} of type binary or struct<bytes>")
