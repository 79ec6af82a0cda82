"""Images by their ids: which parts are opened for them, how often, and what is said of those that are not there."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset import plan as planning
from pipeline.dataset.reader import Dataset
from pipeline.errors import UnknownIds
from pipeline.export import export
from pipeline.rates import truncate
from pipeline.restore import decompress
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec

SHARDS = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("lookup")
    make_images(root / "src", 2 * SHARDS, size=8)
    (root / "src" / "img0009.png").write_bytes(b"no")
    return root / "src"


@pytest.fixture(scope="module")
def dataset(source):
    """In memory, where every opening can be counted; and its lower tiers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MIN_SHARDS", SHARDS)
        make_dataset(source, "memory://lookup/ds")
    truncate("memory://lookup/ds", "memory://lookup/small", tier=1)
    yield "memory://lookup/ds"
    fsspec.filesystem("memory").rm("/lookup", recursive=True)


@pytest.fixture
def opened(monkeypatch):
    """How often each part was opened."""
    seen: Counter[str] = Counter()
    inner = MemoryFileSystem._open

    def counted(self, path, *args, **options):
        if "/part-" in path:
            seen[path.rsplit("/", 1)[-1]] += 1
        return inner(self, path, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "_open", counted)
    return seen


@pytest.mark.parametrize("name", ["ds", "small"])
def test_one_image_opens_one_part_once(dataset, opened, tmp_path, name):
    place = dataset.replace("ds", name)
    assert len(Dataset.open(place).shards) == SHARDS
    assert export(place, str(tmp_path / "one"), ids=["img0042.png"])["written"] == 1
    assert list(opened.values()) == [1]
    opened.clear()
    assert decompress(place, str(tmp_path / "png"), ids=["img0042.png"], codec=FakeCodec()).written == 1
    assert list(opened.values()) == [1]


def test_beside_an_input_that_failed_its_part_is_asked_too(dataset, opened, tmp_path):
    assert export(dataset, str(tmp_path), ids=["img0008.png", "img0042.png"])["written"] == 2
    assert sorted(opened.values()) == [1, 2]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["img0042.png", "nobody"], "has no image nobody; psc query"),
        (["img0042.png", "img0042.pn", "img0042.pngg", "", "￿"], "has no image , img0042.pn, img0042.pngg, ￿"),
        (["img0009.png"], r"no stream: img0009.png \(unknown_format\)"),
    ],
)
def test_ids_that_are_not_there_are_named(dataset, tmp_path, ids, said):
    for place in (dataset, dataset.replace("ds", "small")):
        with pytest.raises(UnknownIds, match=said):
            export(place, str(tmp_path / "out"), ids=ids)
        assert not (tmp_path / "out").exists()


def test_an_image_of_a_shard_that_is_not_committed_is_not_there(source, tmp_path):
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds", [0])
    with pytest.raises(UnknownIds, match="img0079"):
        Dataset.open(str(tmp_path / "ds")).locate(["img0000.png", "img0079.png"])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 2 * SHARDS - 1).filter(lambda n: n != 9), min_size=1), st.randoms())
def test_with_and_without_the_list_the_same_is_found(dataset, numbers, chance: random.Random):
    ids = [f"img{n:04d}.png" for n in numbers]
    chance.shuffle(ids)
    whole = Dataset.open(dataset)
    bare = replace(whole, plan=replace(whole.plan, items_file=""))
    assert whole.locate(ids) == bare.locate(ids)
    assert [name for name, _ in whole.streams(ids=ids)] == sorted(ids)
