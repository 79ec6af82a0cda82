"""The rows of a committed part as it stands, one row group of them in memory at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq

from pipeline.dataset.commit import part_name
from pipeline.dataset.reader import Dataset

_BATCH = 64
_COPIED = 16 * 1024 * 1024


class Standing:
    """One part. Places are counted from 0, over all its rows."""

    def __init__(self, part: pq.ParquetFile, columns: Sequence[str]) -> None:
        self._part, self._columns = part, list(columns)

    def values(self, column: str, low: int, high: int) -> dict[int, Any]:
        """A narrow column by place, from ``low`` to before ``high``."""
        held = self._part.read(columns=[column])[column].slice(low, high - low)
        return dict(enumerate(held.to_pylist(), low))

    def rows(self, low: int, high: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows with their places, from ``low`` to before ``high``."""
        first = 0
        for group in range(self._part.num_row_groups):
            count = self._part.metadata.row_group(group).num_rows
            if first < high and low < first + count:
                batches = self._part.iter_batches(_BATCH, row_groups=[group], columns=self._columns)
                rows = (row for batch in batches for row in batch.to_pylist())
                yield from ((place, row) for place, row in enumerate(rows, first) if low <= place < high)
            first += count


@contextmanager
def standing(opened: Dataset, shard: int) -> Iterator[Standing]:
    """A part that stays as it is when someone replaces it: here by the open file, of a store by a copy on disk."""
    if opened.folder.is_local:
        with open(opened.folder.full(part_name(shard)), "rb") as file, pq.ParquetFile(file) as part:
            yield Standing(part, opened.columns())
        return
    with tempfile.TemporaryFile(prefix="psc-") as copy:
        with opened.folder.open(part_name(shard)) as file:
            shutil.copyfileobj(file, copy, _COPIED)
        with pq.ParquetFile(copy) as part:
            yield Standing(part, opened.columns())
