"""Lower the rate of a dataset: no model, no GPU, no torch, no Ray.

To a tier it is a projection of columns. To a budget each stream is cut at its last cut under the budget,
for all rows of a row group at once over Arrow's offsets: nothing here loops over rows.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset import plan as planning
from pipeline.dataset.commit import adopt, commit, committed_shards
from pipeline.dataset.cuts import cut_binary, cut_lists, last_cut
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.plan import Plan
from pipeline.dataset.reader import Dataset
from pipeline.dataset.results import Result, Tally
from pipeline.dataset.schema import OK, dataset_schema, payload_names, scalar_names
from pipeline.errors import BadRequest, CorruptPart, JobFailed
from pipeline.stores.storage import Folder
from pipeline.workers.interrupt import before_writing

_THREADS = 4
"""More than a disk needs: each waits for its part to be on it before the next."""


def truncate(
    dataset: str,
    target: str,
    *,
    tier: int | None = None,
    bpp: float | None = None,
    resume: bool = False,
    progress: Callable[[Tally], None] = lambda tally: None,
    on_begin: Callable[[], None] = lambda: None,
) -> Result:
    """Write a dataset of tiers 0..``tier``, or of at most ``bpp`` bits a pixel in every image.

    A budget counts what the image's row stores: its header and its tiers. An image whose first cut is above
    the budget keeps its row and its header, without a tier; ``notes["without_tiers"]`` counts them. progress and
    on_begin are those of :func:`pipeline.run.compress`.

    Raises:
        Refused: not a finished dataset, no such tier, target taken or not writable.
    """
    if (tier is None) == (bpp is None):
        raise BadRequest("give a tier (--tier) or a number of bits a pixel (--bpp), and not both")
    if bpp is not None and not bpp > 0:
        raise BadRequest(f"bpp {bpp}: expected a number above 0")
    began = time.monotonic()
    with before_writing() as begin:
        origin = Dataset.open(dataset)
        if tier is not None:
            origin.check_tier(tier)
        origin.check_complete()
        folder = Folder.at(target)
        plan = _plan(origin, tier, bpp)
        planned = planning.check_target(folder, resume=resume)
        if planned is not None:
            planning.check_same(planned, plan.fields() | {"source": plan.source})
        elif resume:
            on_begin()
        begin()
        planned = planned or _freeze(origin, folder, plan)
        made = _run(origin, folder, planned, tier, bpp, progress)
    tally = Dataset.open(target).tally()
    empty = tally.ok - int(tally.tiers[0]["images"])
    notes = {"without_tiers": empty}
    return Result(target, tally, time.monotonic() - began, inherited=True, notes=notes, made=made)


def truncated(table: pa.Table, tiers: int, bpp: float) -> pa.Table:
    """Rows of a dataset of ``tiers`` tiers, each cut at its last cut of at most ``bpp`` bits a pixel.

    Raises:
        CorruptPart: a row's figures are not of its bytes.
    """
    ok = pc.equal(table["status"], OK).combine_chunks()
    area = pc.multiply(table["width"].cast(pa.float64()), table["height"].cast(pa.float64()))
    budget = np.floor(_numbers(area) * bpp / 8)
    header = _numbers(pc.binary_length(table["image_header"]))
    left = budget - header
    open_rows = ok.to_numpy(zero_copy_only=False)
    used = header
    columns = {name: table[name] for name in table.column_names}
    for k in range(tiers):
        payload, cuts = columns[f"tier_{k}"].combine_chunks(), columns[f"t{k}_cuts"].combine_chunks()
        size = _numbers(columns[f"t{k}_bytes"])
        keep = last_cut(cuts, np.where(open_rows, left, -1)).astype(np.float64)
        _check(k, keep, _numbers(pc.binary_length(columns[f"tier_{k}"])), size)
        whole = keep == size
        gone = keep == 0
        columns[f"tier_{k}"] = cut_binary(payload, keep.astype(np.int64), gone)
        columns[f"t{k}_cuts"] = cut_lists(cuts, keep.astype(np.int64), gone)
        columns[f"t{k}_bytes"] = pa.array(keep.astype(np.int64), mask=gone)
        for name in (f"t{k}_psnr", f"t{k}_ssim"):
            # Measured at the tier's end: it says nothing of a part of the tier.
            columns[name] = pc.if_else(pa.array(whole & ~gone), columns[name], pa.scalar(None, pa.float64()))
        left, used = left - keep, used + keep
        open_rows = open_rows & whole & ~gone
    missing = ~ok.to_numpy(zero_copy_only=False)
    columns["bytes"] = pa.array(used.astype(np.int64), mask=missing)
    columns["bpp"] = pa.array(8 * used / np.maximum(_numbers(area), 1), mask=missing)
    return pa.table(columns, schema=dataset_schema(tiers, conditions="prompt" in columns))


def _check(tier: int, keep: np.ndarray, held: np.ndarray, said: np.ndarray) -> None:
    """Bytes are gathered by these figures: wrong ones would reach beyond the tier."""
    wrong = (keep > held) | (keep < 0) | (said != held)
    if wrong.any():
        row = int(wrong.argmax())
        found = f"{held[row]:.0f} bytes, said to be {said[row]:.0f}, to be cut at {keep[row]:.0f}"
        raise CorruptPart(f"tier {tier} of row {row} has {found}: psc verify says which images are damaged")


def _plan(origin: Dataset, tier: int | None, bpp: float | None) -> Plan:
    before = origin.plan
    return Plan(
        kind="truncate",
        source=origin.folder.full_url,
        shared=before.shared,
        params=before.params | {"parent": before.fingerprint, "tier": tier, "bpp": bpp},
        tiers=before.tiers if tier is None else tier + 1,
        shards=before.shards,
        items=before.items,
        items_file=before.items_file,
        prior=before.prior,
    )


def _freeze(origin: Dataset, folder: Folder, plan: Plan) -> Plan:
    """Publish the plan with a list of inputs of its own: it tells which part an image is in."""
    try:
        planning.check_items(origin.folder, origin.plan)
    except CorruptPart:
        # Without it, images are looked for in every part; psc verify tells of the damage.
        plan = replace(plan, items_file="")
    if not plan.items_file:
        return planning.freeze(folder, plan)
    with tempfile.TemporaryDirectory(prefix="psc-plan-") as scratch:
        items = Path(scratch) / "items.parquet"
        with origin.folder.open(plan.items_file) as source, open(items, "wb") as copy:
            shutil.copyfileobj(source, copy)
        return planning.freeze(folder, plan, items)


def _run(
    origin: Dataset,
    folder: Folder,
    plan: Plan,
    tier: int | None,
    bpp: float | None,
    progress: Callable[[Tally], None],
) -> int:
    """Write the parts that are missing: how many images that made."""
    done = set(committed_shards(folder))
    tally = Tally(plan)
    for marker in Dataset(folder, plan, tuple(sorted(done))).markers:
        tally.add(marker)
    progress(tally)
    before = tally.ok
    rows = {marker["shard"]: marker["rows"] for marker in origin.markers}

    def one(shard: int) -> dict:
        found = adopt(folder, shard, fingerprint=plan.fingerprint, rows=rows[shard], tiers=plan.tiers)
        return found or _part(origin, folder, plan, shard, rows[shard], bpp, Path(scratch))

    with folder.spool() as scratch, ThreadPoolExecutor(_THREADS) as pool:
        try:
            for marker in pool.map(one, [shard for shard in origin.shards if shard not in done]):
                tally.add(marker)
                progress(tally)
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            raise JobFailed(f"{error}; what is committed stays: mend it and add --resume") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return tally.ok - before


def _part(origin: Dataset, folder: Folder, plan: Plan, shard: int, rows: int, bpp: float | None, scratch: Path) -> dict:
    columns = scalar_names(plan.tiers, origin.conditions) + payload_names(plan.tiers)
    identity: dict[str, Any] = {"fingerprint": plan.fingerprint, "tiers": plan.tiers}
    local = scratch / f"shard-{shard:05d}"
    with origin.open_part(shard) as source:
        writer = PartWriter(local, shared=plan.shared, shard=shard, **identity)
        try:
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, columns=columns, use_threads=False)
                writer.add_table(truncated(table, plan.tiers, bpp) if bpp else _totals(table, plan.tiers))
        finally:
            writer.close()
    try:
        return commit(folder, local, shard, rows=rows, **identity)
    finally:
        local.unlink(missing_ok=True)


def _totals(table: pa.Table, tiers: int) -> pa.Table:
    """The sums over the tiers that are left."""
    total = _numbers(pc.binary_length(table["image_header"]))
    for k in range(tiers):
        total = total + _numbers(table[f"t{k}_bytes"])
    area = _numbers(table["width"]) * _numbers(table["height"])
    missing = ~pc.equal(table["status"], OK).combine_chunks().to_numpy(zero_copy_only=False)
    sums = {"bytes": pa.array(total.astype(np.int64), mask=missing)}
    sums["bpp"] = pa.array(8 * total / np.maximum(area, 1), mask=missing)
    for name, values in sums.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as float64, exact for sizes in bytes; null as 0."""
    return pc.fill_null(column.cast(pa.float64()), 0.0).combine_chunks().to_numpy(zero_copy_only=False)
