"""Raise the rate of a dataset, given its source images again: the lower tiers come out byte for byte as they
are.

Coding is deterministic, so the streams are made anew up to the tier that is wanted, and each must begin with
what is stored. An image for which that does not hold keeps its row as it was.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import psc_core
from pipeline.codec import Codec
from pipeline.dataset import plan as planning
from pipeline.dataset.plan import Listing, Plan
from pipeline.dataset.reader import Dataset
from pipeline.dataset.results import Result, Tally
from pipeline.dataset.schema import OK
from pipeline.dataset.standing import standing
from pipeline.errors import BadRequest, SourceNotFound
from pipeline.request import Request
from pipeline.run import DEFAULT_BATCH
from pipeline.sources import Item, Source
from pipeline.stores.storage import Folder
from pipeline.workers.actors import Encoder
from pipeline.workers.attempts import Task
from pipeline.workers.cluster import Workers
from pipeline.workers.driver import crew, finish, is_done, run_missing
from pipeline.workers.interrupt import before_writing
from pipeline.workers.telemetry import Meter

_ROWS = 16_384
ITEMS_CONDITION = [("prompt", pa.string()), ("label", pa.int64()), ("origin", pa.string())]


def extend(
    dataset: str,
    target: str,
    *,
    source: str,
    tier: int,
    prior: str | None = None,
    workers: int | Workers | None = None,
    address: str | None = None,
    resume: bool = False,
    batch: int = DEFAULT_BATCH,
    codec: Codec | None = None,
    progress: Callable[[Tally], None] = lambda tally: None,
    on_stop: Callable[[], None] = lambda: None,
    on_begin: Callable[[], None] = lambda: None,
) -> Result:
    """Write ``dataset`` with tiers 0..``tier`` to the new dataset ``target``, encoding ``source`` again.

    Its images are found by their ids, and must have the sha256 that they had. Where one is missing, is another
    now, or does not give the stored bytes again, the row stays as it was, with the reason in its column
    ``error``; ``notes["not_extended"]`` counts those. prior: where it is, if not under its own name; the other
    options are those of :func:`pipeline.run.compress`.

    Raises:
        Refused: not a finished dataset, nothing to extend, no source, target taken or planned otherwise.
        JobFailed: the job stopped early; resume it.
    """
    began = time.monotonic()
    codec, origin, target_folder = codec or Codec(), Dataset.open(dataset), Folder.at(target)
    origin.check_complete()
    _check_tier(origin, tier)
    request = extended_request(origin.plan, tier, prior)
    images = Source(source)
    planned = planning.check_target(target_folder, resume=resume)
    if planned is not None:
        known = {"source": images.full_url, "kind": "extend", "parent": origin.plan.fingerprint, "tier": tier}
        planning.check_same(planned, known, names=known)

    def extended(tally: Tally) -> int:
        return int(tally.tiers[tier]["images"])

    stopped, images_made = False, 0
    if planned is None or not is_done(target_folder, planned):
        with before_writing() as begin, tempfile.TemporaryDirectory(prefix="psc-plan-") as scratch:
            listing = planned or _matched(origin, images, Path(scratch))
            parts = (request, images, target_folder, codec)
            options: dict[str, Any] = {"origin": Dataset(origin.folder, origin.plan, origin.shards), "batch": batch}
            with crew(Extender, *parts, workers=workers, address=address, on_stop=on_stop, **options) as hands:
                made = _plan(origin, images, request, hands.shared, tier, listing)
                if isinstance(listing, Listing):
                    if resume:
                        on_begin()
                    begin()
                    planned = planning.freeze(target_folder, made, listing.file)
                else:
                    planning.check_same(listing, made.fields())
                    planned = listing
                begin()
                images_made = run_missing(hands, planned, target_folder, progress, extended)
                stopped = hands.stop()
    result = finish(target_folder, planned, began, stopped=stopped, inherited=True, made=images_made)
    # What a stopped job did not come to is not an image that cannot be extended.
    left = result.tally.ok - extended(result.tally)
    return replace(result, notes={"not_extended": left}, incomplete=left)


def extended_request(plan: Plan, tier: int, prior: str | None) -> Request:
    """The request of a direct encoding up to ``tier``. Raises InvalidProfile if the profile cannot."""
    uncut = replace(plan, params=plan.params | {"max_bpp": None, "target_psnr": None})
    request = Request.of_plan(uncut, prior=prior)
    # Prompts are those that the rows hold: none is made anew.
    request = replace(request, overrides={"tiers": tier + 1}, captioner=None)
    request.check()
    return request


class Extender(Encoder):
    """Encodes the images of a shard again, and puts rows whose streams begin as they did in place of the old
    ones.
    """

    def __init__(self, *args: Any, origin: Dataset, **options: Any) -> None:
        super().__init__(*args, **options)
        self._origin = origin

    def _rows(self, plan: Plan, task: Task, items: Sequence[Item], meter: Meter) -> Iterator[dict[str, Any]]:
        low, high = task.probe or (0, len(items))
        with standing(self._origin, task.shard) as part:
            states, hashes = (part.values(name, low, high) for name in ("status", "sha256"))
            known = {place: hashes[place] for place, status in states.items() if status == OK}
            encoded = self._encoded(plan, task, items, list(known), meter, sha256=known)
            for place, row in part.rows(low, high):
                yield _extended(row, next(encoded)) if place in known else row


def _extended(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``new`` if it continues ``old``, else ``old`` with the reason."""
    if new["status"] != OK:
        return old | {"error": f"not extended: {new['status']}: {new['error']}"[:500]}
    names = ["image_header", *(name for name in old if name.startswith("tier_"))]
    stored = [(old[name], new[name]) for name in names if old[name] is not None]
    whole = all(after == before for before, after in stored[:-1])
    # Only the last tier may have been cut.
    if whole and stored[-1][1].startswith(stored[-1][0]):
        return new
    return old | {"error": "not extended: not_reproduced: encoding it again gives other bytes than are stored"}


def _check_tier(origin: Dataset, tier: int) -> None:
    held = origin.tiers - 1
    if tier < held:
        raise BadRequest(f"tier {tier}: {origin.folder.url} holds tiers 0 to {held}; psc truncate lowers the rate")
    whole = all(origin.plan.params.get(cap) is None for cap in ("bpp", "max_bpp", "target_psnr"))
    tally = origin.tally()
    if tier == held and whole and tally.tiers[held]["images"] == tally.ok:
        raise BadRequest(f"tier {tier}: {origin.folder.url} holds it already; give a higher one")


def _plan(origin: Dataset, source: Source, request: Request, shared: str, tier: int, listing: Listing | Plan) -> Plan:
    _check_prior(origin, shared)
    return Plan(
        kind="extend",
        source=source.full_url,
        shared=shared,
        params=request.params() | {"parent": origin.plan.fingerprint, "tier": tier},
        tiers=tier + 1,
        shards=listing.shards,
        items=listing.items,
        source_bytes=listing.source_bytes,
        items_file=listing.items_file,
        prior=request.prior,
    )


def _check_prior(origin: Dataset, shared: str) -> None:
    """Raise :class:`PlanDiffers` unless the workers continue the streams of ``origin``."""
    now = psc_core.SharedHeader.from_json(shared)
    same = replace(now, profile=origin.shared.profile).to_json()
    planning.check_same(origin.plan, replace(origin.plan, shared=same).fields())


def _matched(origin: Dataset, source: Source, scratch: Path) -> Listing:
    """For every row of ``origin`` the source's item of that id, in the same shards and order.

    A row without one gets an item of its id at a path that is not there. The join may spill to disk: memory
    does not grow with the number of images.

    Raises:
        SourceNotFound: the source has not one of them.
    """
    import duckdb

    there: Counter[bool] = Counter()
    listed, total = scratch / "listing.arrow", 0
    _, total = planning.spill(source.items(), listed)
    rows = scratch / "rows.parquet"
    _write_ids(origin, rows)
    connection = duckdb.connect(config={"temp_directory": str(scratch)})
    try:
        with pa.OSFile(str(listed), "rb") as file, pa.ipc.open_stream(file) as reader:
            connection.register("items", reader)
            connection.register("rows", ds.dataset(rows))
            found = connection.sql(
                "select shard, id, items.* exclude (id, prompt, label, origin), rows.prompt, rows.label, rows.origin "
                "from rows left join items using (id) order by place"
            )
            listing = planning.write_shards(_shards(found.to_arrow_reader(_ROWS), source, there), scratch, total)
    finally:
        connection.close()
    if not there[True]:
        raise SourceNotFound(f"{source.full_url} holds none of the images of {origin.folder.url}: give their source")
    return listing


def _write_ids(origin: Dataset, file: Path) -> None:
    """Shard, id and condition of every row of ``origin``."""
    schema = pa.schema([("place", pa.int64()), ("shard", pa.int64()), ("id", pa.string()), *ITEMS_CONDITION])
    names = ["image_id", *(["prompt", "label", "condition_origin"] if origin.conditions else [])]
    place = 0
    with pq.ParquetWriter(file, schema) as writer:
        for shard in origin.shards:
            with origin.open_part(shard) as part:
                found = [column.combine_chunks() for column in part.read(columns=names).columns]
            count = len(found[0])
            places = pa.array(range(place, place + count))
            place += count
            none = [pa.nulls(count, kind) for _, kind in ITEMS_CONDITION[len(found) - 1 :]]
            writer.write_table(pa.table([places, pa.array([shard] * count), *found, *none], schema=schema))


def _shards(batches: Any, source: Source, there: Counter[bool]) -> Iterator[list[dict[str, Any]]]:
    """``there`` counts the rows that the source has, and has not."""
    rows = (row for batch in batches for row in batch.to_pylist())
    for _, shard in groupby(rows, lambda row: row.pop("shard")):
        own = list(shard)
        there.update(row["path"] is not None for row in own)
        yield [row if row["path"] is not None else planning.as_row(source.absent(row["id"])) for row in own]
