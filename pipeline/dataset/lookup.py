"""Which shards hold some images: told by the plan's list of inputs, so that no other part is opened."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.commit import open_part, read_markers
from pipeline.dataset.plan import Plan, reading_items
from pipeline.dataset.schema import OK
from pipeline.errors import CorruptPart, UnknownIds
from pipeline.stores.storage import Folder

_TOLD = 5


def located(folder: Folder, plan: Plan, committed: Collection[int], ids: Collection[str]) -> dict[int, list[str]]:
    """``ids`` by the shard, of those ``committed``, that they are in. A part is opened only if some input of its shard
    has no stream.

    Raises:
        UnknownIds: some of them are not in the dataset, or have no stream there.
    """
    planned = _planned(folder, plan, ids)
    states: dict[str, str] = {}
    found: dict[int, list[str]] = {}
    candidates = {shard: list(ids) for shard in committed} if planned is None else planned
    shards = sorted(candidates.keys() & set(committed))
    for shard, marker in zip(shards, read_markers(folder, shards), strict=True):
        if planned is not None and marker["status"].keys() <= {OK}:
            held = dict.fromkeys(candidates[shard], OK)
        else:
            rows = rows_of(folder, shard, candidates[shard], ["image_id", "status"])
            held = {row["image_id"]: row["status"] for table in rows for row in table.to_pylist()}
        states |= held
        if fine := [image_id for image_id, status in held.items() if status == OK]:
            found[shard] = fine
    _check(folder, ids, states)
    return found


def rows_of(folder: Folder, shard: int, ids: Collection[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of some images in one part, a row group at a time; of one that holds none at most its ids are read."""
    ordered = sorted(ids)
    wanted = pa.array(ordered, pa.string())
    with open_part(folder, shard) as part:
        for group in range(part.num_row_groups):
            if _may_hold(part.metadata.row_group(group), ordered):
                held = pc.is_in(part.read_row_group(group, columns=["image_id"])["image_id"], value_set=wanted)
                if pc.any(held).as_py():
                    yield part.read_row_group(group, columns=list(columns)).filter(held)


def _planned(folder: Folder, plan: Plan, ids: Collection[str]) -> dict[int, list[str]] | None:
    """``ids`` by the shard that they were planned for; None if the dataset has no readable list of its inputs."""
    if not plan.items_file:
        return None
    try:
        with reading_items(folder, plan):
            return _listed(folder, plan, ids)
    except CorruptPart:
        return None


def _listed(folder: Folder, plan: Plan, ids: Collection[str]) -> dict[int, list[str]]:
    ordered = sorted(ids)
    wanted = pa.array(ordered, pa.string())
    found = {}
    with folder.open(plan.items_file) as file, pq.ParquetFile(file) as items:
        for shard in range(items.num_row_groups):
            if _may_hold(items.metadata.row_group(shard), ordered):
                names = items.read_row_group(shard, columns=["id"])["id"]
                if held := names.filter(pc.is_in(names, value_set=wanted)).to_pylist():
                    found[shard] = held
    return found


def _may_hold(group: Any, ordered: Sequence[str]) -> bool:
    """Whether one of some ids, ascending, lies in the range of a row group's first column."""
    range_of = group.column(0).statistics
    if range_of is None or not range_of.has_min_max:
        return True
    place = bisect_left(ordered, range_of.min)
    return place < len(ordered) and ordered[place] <= range_of.max


def _check(folder: Folder, ids: Collection[str], states: dict[str, str]) -> None:
    if missing := sorted(i for i in ids if i not in states):
        raise UnknownIds(f"{folder.url} has no image {', '.join(missing[:_TOLD])}; psc query lists its ids")
    if failed := sorted(f"{i} ({states[i]})" for i in ids if states[i] != OK):
        raise UnknownIds(f"these inputs have no stream: {', '.join(failed[:_TOLD])}")
