"""One Parquet part on local disk: written in row groups bounded in bytes, read back before anyone sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.schema import (
    CATEGORIES,
    OK,
    dataset_schema,
    has_conditions,
    metadata_of,
    part_metadata,
    payload_names,
    scalar_names,
)
from pipeline.errors import CorruptPart

GROUP_BYTES = 64 * 1024 * 1024
"""Payload bytes a row group at most, a single row aside."""
GROUP_ROWS = 16_384


class PartWriter:
    """Writes rows, or whole tables, as one part."""

    def __init__(self, path: Path, *, fingerprint: str, shared: str, shard: int, tiers: int) -> None:
        described = part_metadata(fingerprint=fingerprint, shared=shared, shard=shard, tiers=tiers)
        conditions = has_conditions(shared)
        self.schema = dataset_schema(tiers, described, conditions=conditions)
        self.path = path
        self._payloads = payload_names(tiers)
        self._rows: list[Mapping[str, Any]] = []
        self._pending = 0
        scalars = scalar_names(tiers, conditions)
        self._writer = pq.ParquetWriter(
            path,
            self.schema,
            # Payloads are entropy-coded: compressing them again, or a dictionary of them, only costs.
            compression=dict.fromkeys(scalars, "zstd") | dict.fromkeys(self._payloads, "none"),
            use_dictionary=CATEGORIES,
            write_statistics=[*scalars, *(f"t{k}_cuts.list.element" for k in range(tiers))],
            write_page_index=True,
            data_page_version="2.0",
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row; absent columns are null."""
        self._rows.append(row)
        self._pending += sum(len(row.get(name) or b"") for name in self._payloads)
        if self._pending >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self._flush()

    def add_table(self, table: pa.Table) -> None:
        """Add one row group of the part's own columns."""
        self._writer.write_table(table.cast(self.schema), row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_pylist(list(self._rows), schema=self.schema)
            self._writer.write_table(table, row_group_size=len(self._rows))
        self._rows, self._pending = [], 0


def check_part(path: str | Path | BinaryIO, *, fingerprint: str, shard: int, rows: int | None = None) -> None:
    """Raise :class:`CorruptPart` unless this is the whole part of that shard of that plan; OSError if it cannot be
    read at all, which may pass.
    """
    try:
        parquet = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        # What Arrow finds wrong in the bytes has no number.
        if getattr(error, "errno", None) is not None:
            raise
        raise CorruptPart(f"part of shard {shard}: not a readable Parquet file ({error})") from None
    said = metadata_of(parquet.schema_arrow)
    if said.get("psc.fingerprint") != fingerprint or said.get("psc.shard") != str(shard):
        raise CorruptPart(f"part of shard {shard}: written by another plan, or for another shard")
    if rows is not None and parquet.metadata.num_rows != rows:
        raise CorruptPart(f"part of shard {shard}: {parquet.metadata.num_rows} rows where {rows} were planned")


def describe_part(source: str | Path | BinaryIO, tiers: int) -> dict[str, Any]:
    """Counts and sums of a part, from its small columns: what a marker carries."""
    sizes = [f"t{k}_bytes" for k in range(tiers)]
    psnrs = [f"t{k}_psnr" for k in range(tiers)]
    table = pq.ParquetFile(source).read(columns=["status", "width", "height", "bytes", "nfe", *sizes, *psnrs])
    counts = table["status"].value_counts().to_pylist()
    fine = table.filter(pc.equal(table["status"], OK))
    area = pc.multiply(fine["width"].cast(pa.int64()), fine["height"].cast(pa.int64()))
    return {
        "rows": table.num_rows,
        "status": {c["values"]: c["counts"] for c in sorted(counts, key=lambda c: c["values"])},
        "pixels": _sum(area),
        "bytes": _sum(fine["bytes"]),
        "nfe": _sum(fine["nfe"]),
        "tier_bytes": [_sum(fine[name]) for name in sizes],
        "tier_images": [len(fine) - fine[name].null_count for name in sizes],
        "tier_psnr_sum": [float(pc.sum(fine[name]).as_py() or 0.0) for name in psnrs],
        "tier_psnr_images": [len(fine) - fine[name].null_count for name in psnrs],
    }


def file_sha256(source: Any) -> str:
    return hashlib.file_digest(source, "sha256").hexdigest()


def concat_rows(rows: Iterable[Mapping[str, Any]], tiers: int) -> pa.Table:
    """Rows as a table of the dataset's schema."""
    return pa.Table.from_pylist(list(rows), schema=dataset_schema(tiers))


def _sum(values: Any) -> int:
    return int(pc.sum(values).as_py() or 0)
