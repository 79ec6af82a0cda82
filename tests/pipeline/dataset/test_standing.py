"""Parts of several row groups: what is made of them is the same, and one group of them is in memory at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import parts as writing
from pipeline.dataset import plan as planning
from pipeline.dataset.commit import part_name
from pipeline.dataset.plan import ItemsFile
from pipeline.dataset.reader import Dataset
from pipeline.dataset.standing import standing
from pipeline.extend import Extender, extended_request
from pipeline.restore import decompress
from pipeline.retry import Retrier
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.workers.attempts import Task
from psc_core.coding.container import Chunk, Stream, Tier
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper

COUNT = 48
PAYLOAD = 128 * 1024
LITTLE = COUNT * 2 * PAYLOAD / 2
"""Half of a part: a row group as it was read, as Arrow has it and as rows, and that once more of the next one."""


class Heavy(FakeCodec):
    """Streams of 128 kB a tier."""

    def _encode(self, image, shared):
        light = super()._encode(image, shared)
        noise = np.random.default_rng(int(image.sum())).bytes(PAYLOAD)
        tiers = []
        for index, tier in enumerate(light.tiers):
            size = PAYLOAD // len(tier.chunks)
            chunks = [Chunk(noise[:size], chunk.state) for chunk in tier.chunks]
            tiers.append(Tier.build(chunks, canvases=light.canvases, index=index))
        return Stream(light.shared, light.image, tuple(tiers), light.report)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """``src`` and ``ds``: one part of twelve row groups, in which two inputs failed."""
    make_images(tmp_path / "src", COUNT, size=8)
    for number in (5, 30):
        (tmp_path / "src" / f"img{number:04d}.png").write_bytes(b"no")
    monkeypatch.setattr(planning, "MIN_SHARDS", 1)
    monkeypatch.setattr(writing, "GROUP_BYTES", 8 * PAYLOAD)
    monkeypatch.setattr("tests.pipeline.build.FakeCodec", Heavy)
    make_dataset(tmp_path / "src", tmp_path / "ds", paper(overrides={"tiers": 2}))
    assert pq.ParquetFile(tmp_path / "ds" / part_name(0)).num_row_groups > 10
    return tmp_path


@pytest.fixture
def held():
    """Bytes that Arrow and Python hold more than at the beginning, as a function."""
    tracemalloc.start()

    def now() -> int:
        return pa.default_memory_pool().bytes_allocated() + tracemalloc.get_traced_memory()[0]

    before = now()
    yield lambda: now() - before
    tracemalloc.stop()


def test_rows_by_place(place):
    opened = Dataset.open(str(place / "ds"))
    whole = opened.arrow().to_table().to_pylist()
    with standing(opened, 0) as part:
        for low, high in ((0, COUNT), (3, 4), (7, 33), (COUNT - 1, COUNT), (0, 0)):
            assert list(part.rows(low, high)) == list(enumerate(whole))[low:high]
            assert part.values("status", low, high) == {n: whole[n]["status"] for n in range(low, high)}


def test_a_part_that_is_replaced_meanwhile_stays(place):
    opened = Dataset.open(str(place / "ds"))
    whole = opened.arrow().to_table().to_pylist()
    with standing(opened, 0) as part:
        rows = part.rows(0, COUNT)
        begun = [next(rows)]
        other = place / "other"
        other.write_bytes(b"PAR1 another part")
        other.replace(place / "ds" / part_name(0))
        assert [row for _, row in begun + list(rows)] == whole


def test_streams_hold_a_few_row_groups(place, held):
    opened = Dataset.open(str(place / "ds"))
    ids = [f"img{n:04d}.png" for n in range(COUNT) if n not in (5, 30)]
    for streams in (opened.streams(), opened.streams(ids=ids)):
        assert max(held() for _ in streams) < LITTLE


class Watching(Heavy):
    """Notes what is held whenever it works."""

    def __init__(self, held) -> None:
        super().__init__()
        object.__setattr__(self, "held", held)
        object.__setattr__(self, "peaks", [])

    def decode(self, streams, prior, *, tier, restore):
        self.peaks.append(self.held())
        return super().decode(streams, prior, tier=tier, restore=restore)

    def encode(self, images, request, prior):
        self.peaks.append(self.held())
        return super().encode(images, request, prior)


def test_decoding_holds_a_few_row_groups(place, held):
    codec = Watching(held)
    assert decompress(str(place / "ds"), str(place / "out"), codec=codec, batch=2).written == COUNT - 2
    assert max(codec.peaks) < LITTLE


OPTIONS = {"batch": 2, "threads": None}


def test_extending_holds_a_few_row_groups(place, held):
    opened = Dataset.open(str(place / "ds"))
    items = ItemsFile(opened.folder, opened.plan).shard(0)

    codec = Watching(held)
    parts = (
        extended_request(opened.plan, 3, "fake"),
        Source(str(place / "src")),
        Folder.at(str(place / "high")),
        codec,
    )
    extender = Extender(*parts, origin=opened, **OPTIONS)
    plan = planning.Plan(kind="extend", source="", shared=extender.describe(), tiers=4, shards=1, items=COUNT)
    marker = extender.run(plan, Task(0, COUNT), items)
    assert max(codec.peaks) < LITTLE
    make_dataset(place / "src", place / "direct", paper(overrides={"tiers": 4}))
    direct, high = (pq.read_table(place / name / part_name(0)) for name in ("direct", "high"))
    assert high.equals(direct)
    assert marker["status"] == {"ok": COUNT - 2, "unknown_format": 2}


def test_retrying_holds_a_few_row_groups(place, held):
    opened = Dataset.open(str(place / "ds"))
    items = ItemsFile(opened.folder, opened.plan).shard(0)
    make_images(place / "src", COUNT, size=8)
    codec = Watching(held)
    request = extended_request(opened.plan, 1, "fake")
    retrier = Retrier(
        request, Source(str(place / "src")), opened.folder, codec, wanted=frozenset(["unknown_format"]), **OPTIONS
    )
    assert retrier.run(opened.plan, Task(0, COUNT), items)["status"] == {"ok": COUNT}
    assert len(codec.peaks) == 1
    assert codec.peaks[0] < LITTLE
    make_dataset(place / "src", place / "good", paper(overrides={"tiers": 2}))
    names = [name for name in opened.columns() if not name.startswith("source_")]
    good, now = (pq.read_table(place / name / part_name(0), columns=names) for name in ("good", "ds"))
    assert now.equals(good)
