"""Small datasets without Ray: the actor's own code, called directly."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.codec import Codec
from pipeline.dataset import plan as planning
from pipeline.dataset.plan import ItemsFile, Plan
from pipeline.inputs.conditions import conditioned
from pipeline.request import Request
from pipeline.run import compress_plan
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.workers.actors import Encoder
from pipeline.workers.attempts import Task
from tests.pipeline.fake import FakeCodec, paper


def plan_dataset(
    source: Path | str, target: Path | str, request: Request | None = None, codec: Codec | None = None
) -> tuple[Plan, Encoder]:
    """Freeze a plan; and an encoder for its shards."""
    request, folder, origin = request or paper(), Folder.at(target), Source(str(source))
    encoder = Encoder(request, origin, folder, codec or FakeCodec(), batch=4, threads=None)
    with tempfile.TemporaryDirectory() as scratch:
        listing = planning.list_items(conditioned(origin, request.captions, request.labels), Path(scratch))
        plan = planning.freeze(folder, compress_plan(origin, request, encoder.describe(), listing), listing.file)
    return plan, encoder


def run_shards(plan: Plan, encoder: Encoder, target: Path | str, shards: range | list[int] | None = None) -> list[dict]:
    """Encode and commit some shards, or all."""
    items = ItemsFile(Folder.at(target), plan)
    wanted = range(plan.shards) if shards is None else shards
    return [encoder.run(plan, Task(s, items.count(s)), items.shard(s)) for s in wanted]


def make_dataset(source: Path | str, target: Path | str, request: Request | None = None) -> Plan:
    """A finished dataset of all images in ``source``."""
    plan, encoder = plan_dataset(source, target, request)
    run_shards(plan, encoder, target)
    return plan
