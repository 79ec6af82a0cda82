"""The columns of a dataset: one row an input, scalars first, then one column of payload a tier, ascending.

Lowering the rate is then a projection: the columns of higher tiers are never read. A tier that an image
does not have (it failed, or a rate cap ended it earlier) is null in all its columns.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
OK = "ok"

INPUT = [
    ("image_id", pa.string()),
    ("source", pa.string()),
    ("source_version", pa.string()),
    ("status", pa.string()),
    ("error", pa.string()),
    ("attempts", pa.int32()),
]
FACTS = [
    ("sha256", pa.string()),
    ("source_bytes", pa.int64()),
    ("format", pa.string()),
    ("mode", pa.string()),
    ("bit_depth", pa.int32()),
    ("source_width", pa.int32()),
    ("source_height", pa.int32()),
    ("frames", pa.int32()),
    ("orientation", pa.int32()),
    ("alpha", pa.bool_()),
    ("icc", pa.string()),
    ("icc_sha256", pa.string()),
]
CODED = [
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("channels", pa.int32()),
    ("bytes", pa.int64()),
    ("bpp", pa.float64()),
    ("nfe", pa.int64()),
    ("image_header", pa.binary()),
]
CONDITION = [
    ("prompt", pa.string()),
    ("label", pa.int64()),
    ("condition_origin", pa.string()),
    ("condition_bits", pa.int32()),
]
"""Of datasets whose prior takes prompts or labels: what each image is conditioned on, where that came from, and the
bits that it takes in the image's header (they are part of ``bytes`` and ``bpp``)."""
CATEGORIES = ["status", "error", "format", "mode", "icc", "icc_sha256", "condition_origin"]
"""Columns of few distinct values: the only ones with a dictionary."""


def has_conditions(shared: str) -> bool:
    """Whether streams of this shared header may have conditions: headers of format 1 have no place for them."""
    return int(json.loads(shared).get("version", 1)) > 1


def scalar_names(tiers: int, conditions: bool = False) -> list[str]:
    """Every column but the payloads."""
    fixed = [name for name, _ in (*INPUT, *FACTS, *CODED, *(CONDITION if conditions else []))]
    return fixed + [name for k in range(tiers) for name, _ in tier_scalars(k)]


def tier_scalars(k: int) -> list[tuple[str, pa.DataType]]:
    """Cut offsets into the tier's payload, its bytes, and its quality in dB and as SSIM."""
    return [
        (f"t{k}_cuts", pa.list_(pa.int32())),
        (f"t{k}_bytes", pa.int64()),
        (f"t{k}_psnr", pa.float64()),
        (f"t{k}_ssim", pa.float64()),
    ]


def payload_names(tiers: int) -> list[str]:
    return [f"tier_{k}" for k in range(tiers)]


def dataset_schema(tiers: int, metadata: dict[str, str] | None = None, *, conditions: bool = False) -> pa.Schema:
    """The schema of a dataset of ``tiers`` tiers."""
    scalars = (*INPUT, *FACTS, *CODED, *(CONDITION if conditions else []))
    fields = [pa.field(name, kind) for name, kind in scalars]
    for k in range(tiers):
        fields += [pa.field(name, kind) for name, kind in tier_scalars(k)]
    fields += [pa.field(name, pa.large_binary()) for name in payload_names(tiers)]
    return pa.schema(fields, metadata=metadata)


def part_metadata(*, fingerprint: str, shared: str, shard: int, tiers: int) -> dict[str, str]:
    """What a part says of itself in its key-value metadata."""
    table = [{"tier": k, "column": f"tier_{k}", "bytes": f"t{k}_bytes", "cuts": f"t{k}_cuts"} for k in range(tiers)]
    return {
        "psc.schema_version": str(SCHEMA_VERSION),
        "psc.fingerprint": fingerprint,
        "psc.shared": shared,
        "psc.shard": str(shard),
        "psc.tiers": json.dumps(table),
    }


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """The project's entries of a schema's metadata, as text."""
    found = schema.metadata or {}
    return {k.decode(): v.decode() for k, v in found.items() if k.startswith(b"psc.")}
