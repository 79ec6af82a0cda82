"""The plan: what is done to which inputs, in which shards, frozen before anything is encoded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.differences import differences
from pipeline.dataset.parts import file_sha256
from pipeline.dataset.schema import SCHEMA_VERSION
from pipeline.errors import AlreadyADataset, CorruptPart, NotADataset, PlanDiffers, SourceNotFound, TargetNotWritable
from pipeline.sources.item import Item, condition_columns
from pipeline.stores.reach import reaching
from pipeline.stores.storage import Folder

PLAN = "_psc/plan.json"
MAX_SHARD_ITEMS = 1024
MIN_SHARDS = 16
"""Small jobs are cut this fine, so that workers share them and a kill costs little; but not into single
images, which would leave nothing to batch."""
_ITEM_COST = 4096
_BATCH = 8192
# Names that are no text (a file system may hold any bytes) survive as bytes.
ITEMS = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.binary()),
        ("inner", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("prompt", pa.string()),
        ("label", pa.int64()),
        ("origin", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A dataset's plan. ``params`` and ``shared`` hold all that changes bytes; the rest says where and how
    much.

    shared: a :class:`psc_core.SharedHeader` as JSON; tiers: payload columns; shards and items: how many;
    source_bytes: of all items whose listing tells; items_file: name in the dataset of the listed inputs, one
    row group a shard; prior: where it was loaded from; left_out:
    Parquet files of the source that have no images, and left_out_first: one of them.
    """

    kind: str
    source: str
    shared: str
    params: dict[str, Any] = field(default_factory=dict)
    tiers: int
    shards: int
    items: int
    source_bytes: int = 0
    items_file: str = ""
    prior: str = ""
    left_out: int = 0
    left_out_first: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over the shared header and every parameter that changes bytes."""
        return hashlib.sha256(json.dumps(self.fields(), sort_keys=True).encode()).hexdigest()

    def fields(self) -> dict[str, Any]:
        """What the fingerprint is over, flat, by names that a person can read."""
        shared = json.loads(self.shared)
        profile = shared.pop("profile", {})
        flat = {"kind": self.kind, "tiers": self.tiers, "schema_version": self.schema_version}
        return flat | shared | {f"profile.{k}": v for k, v in profile.items()} | self.params

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"fingerprint": self.fingerprint}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, raw: str | bytes) -> Plan:
        fields = json.loads(raw)
        fields.pop("fingerprint")
        return cls(**fields)


@dataclass(frozen=True)
class Listing:
    """A source's items in shards: a local Parquet file, one row group a shard. ``left_out``: as a plan has it."""

    file: Path
    shards: int
    items: int
    source_bytes: int
    left_out: int = 0
    left_out_first: str = ""

    @cached_property
    def items_file(self) -> str:
        """Its name in a dataset, by its content."""
        with open(self.file, "rb") as raw:
            return _items_name(file_sha256(raw))


def read_plan(folder: Folder) -> Plan:
    """The plan of a dataset.

    Raises:
        NotADataset: there is none, or it cannot be read.
    """
    try:
        with reaching(folder.url):
            return Plan.from_json(folder.read(PLAN))
    except (FileNotFoundError, NotADirectoryError):
        hint = "" if folder.exists() else "; nothing is there"
        raise NotADataset(f"{folder.url} is not a PSC dataset: no {PLAN}{hint}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotADataset(
            f"{folder.url}: its {PLAN} cannot be read ({error}); was it written by another version?"
        ) from None


def check_target(folder: Folder, *, resume: bool) -> Plan | None:
    """The plan to go on from, or None if the target is free.

    Raises:
        AlreadyADataset: there is a dataset and ``resume`` is off, or there are other files.
        TargetNotWritable: see :meth:`Folder.check_writable`.
    """
    folder.check_writable()
    if folder.exists(PLAN):
        if not resume:
            raise AlreadyADataset(
                f"{folder.url} is a dataset already: add --resume to go on with it, or choose another"
            )
        return read_plan(folder)
    if not folder.is_empty() and not _only_leftovers(folder):
        raise AlreadyADataset(f"{folder.url} is not empty and no PSC dataset; choose an empty or a new folder")
    return None


def check_same(planned: Plan, now: dict[str, Any], *, names: Iterable[str] | None = None) -> None:
    """Raise :class:`PlanDiffers`, naming every differing field, unless ``now`` agrees with the plan."""
    before = planned.fields() | {"source": planned.source}
    differing = differences(before, now, names or {*before, *now} - {"source"} | ({"source"} & set(now)))
    if differing:
        raise PlanDiffers(f"{'; '.join(differing)}: give the planned values to go on, or choose a new dataset")


def freeze(folder: Folder, plan: Plan, items: Path | None = None) -> Plan:
    """Publish a plan, or join the same one if another driver published it first.

    Raises:
        PlanDiffers: the other driver's plan is another.
        TargetNotWritable: the folder cannot be written.
    """
    try:
        if items is not None:
            folder.create_from(plan.items_file, items)
        created = folder.create(PLAN, plan.to_json().encode())
    except OSError as error:
        raise TargetNotWritable(f"{folder.url} cannot be written: {error}") from None
    if created:
        return plan
    theirs = read_plan(folder)
    check_same(theirs, plan.fields() | {"source": plan.source})
    if theirs.items_file != plan.items_file:
        raise PlanDiffers(f"{folder.url} was planned a moment ago with another listing of {plan.source}; resume that")
    return theirs


def list_items(items: Iterable[Item], scratch: Path) -> Listing:
    """Write a source's items in shards, one row group each.

    Shards are runs of consecutive items, balanced by bytes, the nearest thing to pixels that a listing
    tells. Memory does not grow with the number of items.

    Raises:
        SourceNotFound: there are none.
    """
    listing = scratch / "listing.arrow"
    count, total = spill(items, listing)
    if not count:
        raise SourceNotFound("the source holds no file that could be an image")
    shards = max(-(-count // MAX_SHARD_ITEMS), min(-(-count // 2), MIN_SHARDS))
    return write_shards(_runs(_spilled(listing), (total + count * _ITEM_COST) / shards), scratch, total)


def write_shards(shards: Iterable[list[dict[str, Any]]], scratch: Path, source_bytes: int) -> Listing:
    """A listing of these shards, each as rows of items."""
    file = scratch / "items.parquet"
    written = count = 0
    with pq.ParquetWriter(file, ITEMS, compression="zstd") as writer:
        for shard in shards:
            writer.write_table(pa.Table.from_pylist(shard, schema=ITEMS), row_group_size=len(shard))
            written, count = written + 1, count + len(shard)
    return Listing(file, written, count, source_bytes)


class ItemsFile:
    """The plan's items; a shard is read at a cost that does not depend on how many there are.

    Raises:
        CorruptPart: the file is gone, or damaged where it is read.
    """

    def __init__(self, folder: Folder, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        with reading_items(self._folder, self._plan):
            self._file = folder.open(plan.items_file)
            self._parquet = pq.ParquetFile(self._file)

    def shard(self, index: int) -> list[Item]:
        with reading_items(self._folder, self._plan):
            rows = self._parquet.read_row_group(index).to_pylist()
        return [_item(row) for row in rows]

    def count(self, index: int) -> int:
        return self._parquet.metadata.row_group(index).num_rows

    def close(self) -> None:
        self._parquet.close()
        self._file.close()


@contextmanager
def reading_items(folder: Folder, plan: Plan) -> Iterator[None]:
    """Raises :class:`CorruptPart` for what is met if the list of inputs is gone, or damaged."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        # What Arrow finds wrong in the bytes has no number.
        if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) is None:
            raise _unlisted(folder, plan, str(error)) from None
        raise


def check_items(folder: Folder, plan: Plan) -> None:
    """Raise :class:`CorruptPart` unless the list of inputs, if the plan has one, is the file that was planned."""
    if not plan.items_file:
        return
    with reading_items(folder, plan), folder.open(plan.items_file) as file:
        found = file_sha256(file)
    if _items_name(found) != plan.items_file:
        raise _unlisted(folder, plan, "its sha256 differs")


def _items_name(sha256: str) -> str:
    return f"_psc/items-{sha256[:16]}.parquet"


def _unlisted(folder: Folder, plan: Plan, reason: str) -> CorruptPart:
    others = {
        "compress": f", or from NEW after psc plan {plan.source} NEW: the same name is the same list",
        "truncate": f", or from {plan.source}",
    }
    return CorruptPart(
        f"{folder.full(plan.items_file)} is not the planned list of inputs ({reason}): decoding needs it not, --resume "
        f"and psc retry do; copy it from another copy of the dataset{others.get(plan.kind, '')}"
    )


def spill(items: Iterable[Item], path: Path) -> tuple[int, int]:
    """Write items as an Arrow stream: how many, and their bytes in all. Memory does not grow with them."""
    count = total = 0
    batch: list[dict[str, Any]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, ITEMS) as writer:
        for item in items:
            batch.append(as_row(item))
            count += 1
            total += max(item.size, 0)
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=ITEMS))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=ITEMS))
    return count, total


def _spilled(path: Path) -> Iterator[dict[str, Any]]:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            yield from batch.to_pylist()


def _runs(rows: Iterable[dict[str, Any]], target: float) -> Iterator[list[dict[str, Any]]]:
    """Consecutive rows of about ``target`` weight together."""
    run: list[dict[str, Any]] = []
    total = 0
    for row in rows:
        weight = _weight(row["size"])
        if run and (total + weight / 2 > target or len(run) == MAX_SHARD_ITEMS):
            yield run
            run, total = [], 0
        run.append(row)
        total += weight
    if run:
        yield run


def _weight(size: int) -> int:
    return _ITEM_COST + max(size, 0)


def as_row(item: Item) -> dict[str, Any]:
    """An item as the plan's file holds it."""
    return {
        "id": item.id,
        "path": os.fsencode(item.path),
        "inner": item.inner,
        "size": item.size,
        "version": item.version,
        **condition_columns(item),
        "origin": item.origin or None,
    }


def _item(row: dict[str, Any]) -> Item:
    given = row.get("prompt") if row.get("label") is None else row["label"]
    place = os.fsdecode(row["path"])
    return Item(row["id"], place, row["size"], row["version"], row["inner"], given, row.get("origin") or "")


def _only_leftovers(folder: Folder) -> bool:
    """Whether all that is there is what a killed start of ours leaves behind."""
    entries = folder.fs.ls(folder.path, detail=False)
    names = {entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries}
    return {n for n in names if not n.startswith(".")} <= {"_psc"}
