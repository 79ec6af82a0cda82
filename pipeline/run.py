"""Compress: plan, dispatch, drain, resume."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psc_core
from pipeline.codec import Codec
from pipeline.dataset import plan as planning
from pipeline.dataset.plan import Listing, Plan
from pipeline.dataset.results import Result, Tally
from pipeline.errors import AlreadyADataset, SourceNotFound
from pipeline.inputs.conditions import conditioned
from pipeline.request import Request
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.workers.actors import Encoder
from pipeline.workers.cluster import Workers
from pipeline.workers.driver import crew, finish, is_done, run_missing
from pipeline.workers.interrupt import before_writing

DEFAULT_BATCH = 8


def plan(
    source: str,
    dataset: str,
    request: Request | None = None,
    *,
    dry_run: bool = False,
    codec: Codec | None = None,
) -> Plan:
    """List ``source``, and freeze in ``dataset`` what compressing it will do; no image is read.

    The prior is loaded in this process, for its fingerprint. ``dry_run``: only return the plan. Carry it out
    with ``compress(..., resume=True)`` and the same request.

    Raises:
        Refused: bad request, no source, target taken or not writable.
    """
    request, codec = _checked(request), codec or Codec()
    origin, target = Source(source), Folder.at(dataset)
    if planning.check_target(target, resume=True) is not None:
        raise AlreadyADataset(f"{target.url} has a plan already: psc status shows it; choose another folder")
    with before_writing() as begin, tempfile.TemporaryDirectory(prefix="psc-plan-") as scratch:
        listing = listed(origin, request, Path(scratch))
        made = compress_plan(origin, request, codec.shared(request, codec.load(request)), listing)
        begin()
        return made if dry_run else planning.freeze(target, made, listing.file)


def compress(
    source: str,
    dataset: str,
    request: Request | None = None,
    *,
    workers: int | Workers | None = None,
    address: str | None = None,
    resume: bool = False,
    batch: int = DEFAULT_BATCH,
    codec: Codec | None = None,
    progress: Callable[[Tally], None] = lambda tally: None,
    on_stop: Callable[[], None] = lambda: None,
    on_begin: Callable[[], None] = lambda: None,
) -> Result:
    """Compress every image of ``source`` into the Parquet dataset ``dataset``.

    source and dataset are any fsspec URLs; workers: actors, by default one a GPU or one a CPU;
    address: a Ray cluster, by default this machine; batch: images encoded together, which does not change
    the result; progress is called with the tally after every shard, on_stop when Ctrl-C is first pressed, on_begin when
    ``resume`` finds nothing to go on with, and a new dataset begins.

    Raises:
        Refused: nothing was done (bad request, no source, target taken or planned otherwise).
        JobFailed: the job stopped early; resume it.
    """
    request, codec = _checked(request), codec or Codec()
    origin, target = Source(source), Folder.at(dataset)
    planned = planning.check_target(target, resume=resume)
    if planned is not None:
        _check_known(planned, origin, request)
    began = time.monotonic()
    with before_writing() as begin, tempfile.TemporaryDirectory(prefix="psc-plan-") as scratch:
        listing = listed(origin, request, Path(scratch)) if planned is None else None
        if planned is not None and is_done(target, planned):
            return finish(target, planned, began, stopped=False)
        parts = (request, origin, target, codec)
        with crew(Encoder, *parts, workers=workers, address=address, on_stop=on_stop, batch=batch) as hands:
            if listing is not None:
                if resume:
                    on_begin()
                begin()
                made = compress_plan(origin, request, hands.shared, listing)
                planned = planning.freeze(target, made, listing.file)
            else:
                assert planned is not None
                planning.check_same(planned, compress_plan(origin, request, hands.shared, planned).fields())
            begin()
            images = run_missing(hands, planned, target, progress)
            stopped = hands.stop()
        return finish(target, planned, began, stopped=stopped, made=images)


def listed(source: Source, request: Request, scratch: Path) -> Listing:
    """The source's items in shards, under their conditions. Raises SourceNotFound if there are none."""
    left_out: list[str] = []
    items = conditioned(source, request.captions, request.labels, lambda file: left_out.append(file.id))
    try:
        listing = planning.list_items(items, scratch)
    except SourceNotFound as error:
        if left_out:
            raise SourceNotFound(f"{error}; {left_out[0]} has no image column") from None
        raise
    return replace(listing, left_out=len(left_out), left_out_first=next(iter(left_out), ""))


def compress_plan(source: Source, request: Request, shared: str, listing: Listing | Plan) -> Plan:
    """The plan of a compression over a listing, or over that of another plan."""
    return Plan(
        kind="compress",
        source=source.full_url,
        shared=shared,
        params=request.params(),
        tiers=request.get_profile().tiers,
        shards=listing.shards,
        items=listing.items,
        source_bytes=listing.source_bytes,
        items_file=listing.items_file,
        prior=request.prior,
        left_out=listing.left_out,
        left_out_first=listing.left_out_first,
    )


def _checked(request: Request | None) -> Request:
    request = (request or Request()).absolute()
    request.check()
    return request


def _check_known(planned: Plan, source: Source, request: Request) -> None:
    """Refuse what can be refused before anything is started, and all that is compared where nothing is missing."""
    profile = psc_core.SharedHeader.from_json(planned.shared).profile
    known = request.known_fields(profile) | {"source": source.full_url, "kind": "compress"}
    changed = {name for name in planned.fields() if name.startswith("profile.")}
    planning.check_same(planned, known, names={*known, *changed})
