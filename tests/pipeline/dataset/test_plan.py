from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.compress import request_of
from pipeline.dataset import plan as planning
from pipeline.dataset.plan import ItemsFile, Plan
from pipeline.errors import AlreadyADataset, BadRequest, NotADataset, PlanDiffers, SourceNotFound, TargetNotWritable
from pipeline.inputs.images import MAX_PIXELS
from pipeline.request import Request
from pipeline.sources import Item
from pipeline.stores.storage import Folder
from tests.pipeline.fake import FakeCodec, paper


def items(count: int, size=lambda n: 1000) -> list[Item]:
    return [Item(f"{n:06d}.jpg", f"/s/{n:06d}.jpg", size(n), "v", "") for n in range(count)]


def a_plan(request: Request | None = None, **changes) -> Plan:
    request = request or paper()
    shared = FakeCodec().shared(request, FakeCodec().load(request))
    fields = {"kind": "compress", "source": "s", "shared": shared, "params": request.params()}
    return Plan(**fields | {"tiers": request.get_profile().tiers, "shards": 1, "items": 1} | changes)


def listed(tmp_path, given: list[Item]) -> tuple[Plan, ItemsFile]:
    listing = planning.list_items(given, tmp_path)
    file, shards, count = listing.file, listing.shards, listing.items
    folder = Folder.at(tmp_path / "ds")
    plan = planning.freeze(folder, a_plan(shards=shards, items=count, items_file="_psc/items.parquet"), file)
    return plan, ItemsFile(folder, plan)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 100, 5000])
def test_shards_hold_every_item_once_and_in_order(tmp_path, count):
    given = items(count, size=lambda n: (n * 7919) % 5000 - 1)
    plan, file = listed(tmp_path, given)
    shards = [file.shard(s) for s in range(plan.shards)]
    assert [item for shard in shards for item in shard] == given
    assert [file.count(s) for s in range(plan.shards)] == [len(s) for s in shards]
    assert all(shards)
    assert max(map(len, shards)) <= planning.MAX_SHARD_ITEMS


def test_shards_are_balanced_by_bytes(tmp_path):
    plan, file = listed(tmp_path, items(1000, size=lambda n: 2_000_000 if n < 100 else 20_000))
    weights = [sum(i.size for i in file.shard(s)) for s in range(plan.shards)]
    assert plan.shards >= planning.MIN_SHARDS - 2
    assert max(weights) < 1.5 * sum(weights) / len(weights)


def test_names_that_are_no_text_survive(tmp_path):
    odd = b"/s/caf\xe9.png".decode("utf-8", "surrogateescape")
    _, file = listed(tmp_path, [Item("caf\\xe9.png", odd, 1)])
    assert file.shard(0)[0].path == odd


def test_nothing_to_do_is_refused(tmp_path):
    with pytest.raises(SourceNotFound):
        planning.list_items([], tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"size": 64},
        {"max_bpp": 0.5},
        {"max_pixels": 10},
        {"arithmetic": "float"},
        {"overrides": {"rows": 11}},
        {"overrides": {"tiers": 3}},
    ],
)
def test_every_parameter_that_changes_bytes_changes_the_fingerprint(change):
    prior_arithmetic = change.get("arithmetic", "exact")
    changed = paper(**change)
    prior = FakeCodec().load(changed)
    prior.arithmetic = prior_arithmetic
    other = a_plan(changed, shared=FakeCodec().shared(changed, prior))
    before = a_plan()
    assert before.fingerprint == a_plan().fingerprint
    assert other.fingerprint != before.fingerprint
    with pytest.raises(PlanDiffers) as caught:
        planning.check_same(before, other.fields())
    name = next(iter(change.get("overrides", change)))
    assert name.replace("_", "-") in str(caught.value).replace("_", "-")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overrides": {"tiers": 6}}, "--tiers 4 planned, 6 given: "),
        (
            {"overrides": {"tiers": 6}, "seed": 3, "max_bpp": 0.5},
            "--max-bpp none planned, 0.5 given; --seed 0 planned, 3",
        ),
        ({"overrides": {"rows": 11, "tiers": 6}}, "--tiers 4 planned, 6 given; profile.rows 12 planned, 11 given: "),
        ({"max_bytes": 9, "size": 8}, "--size none planned, 8 given; max_bytes "),
        ({"profile": "archive", "overrides": {"window": 8}}, "--profile paper planned, archive given; --tiers "),
    ],
)
def test_what_differs_is_said_in_the_words_of_the_command(change, said):
    plan, now = a_plan(), paper(**change)
    for fields in (a_plan(now).fields(), now.known_fields()):
        with pytest.raises(PlanDiffers) as caught:
            planning.check_same(plan, plan.fields() | fields)
        assert str(caught.value).startswith(said)
        assert "digest" not in str(caught.value)


def test_a_digest_is_said_where_nothing_else_differs():
    plan = a_plan()
    with pytest.raises(PlanDiffers, match=r"^--prior, by its prior_fingerprint: 0+ planned, 11 given: "):
        planning.check_same(plan, plan.fields() | {"prior_fingerprint": "11"})
    with pytest.raises(PlanDiffers, match=r"^profile_digest [0-9a-f]+ planned, 11 given: "):
        planning.check_same(plan, plan.fields() | {"profile_digest": "11"})
    file = {"captions": "ab" * 32, "prior_fingerprint": "11"}
    with pytest.raises(PlanDiffers, match=r"captions none planned, a file of sha256 abababababab… given"):
        planning.check_same(plan, plan.fields() | file)


def test_a_plan_survives_its_file(tmp_path):
    folder = Folder.at(tmp_path / "ds")
    plan = planning.freeze(folder, a_plan())
    assert planning.read_plan(folder) == plan
    assert planning.read_plan(folder).fingerprint == plan.fingerprint


def test_of_two_drivers_the_second_joins_the_same_plan_and_refuses_another(tmp_path):
    folder = Folder.at(tmp_path / "ds")
    first = planning.freeze(folder, a_plan())
    assert planning.freeze(folder, a_plan()) == first
    with pytest.raises(PlanDiffers, match="seed"):
        planning.freeze(folder, a_plan(paper(seed=5)))
    with pytest.raises(PlanDiffers, match="listing"):
        planning.freeze(folder, replace(a_plan(), items_file="other"))
    assert planning.read_plan(folder) == first


def test_targets(tmp_path):
    assert planning.check_target(Folder.at(tmp_path / "new" / "ds"), resume=False) is None
    assert planning.check_target(Folder.at(tmp_path), resume=True) is None
    assert not (tmp_path / "new").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing.txt").write_text("mine")
    with pytest.raises(AlreadyADataset):
        planning.check_target(Folder.at(tmp_path / "full"), resume=False)
    with pytest.raises(TargetNotWritable):
        planning.check_target(Folder.at(tmp_path / "full" / "thing.txt"), resume=False)
    with pytest.raises(TargetNotWritable):
        planning.check_target(Folder.at(tmp_path / "full" / "thing.txt" / "ds"), resume=False)
    with pytest.raises(TargetNotWritable):
        planning.check_target(Folder.at("/proc/ds"), resume=False)
    with pytest.raises(NotADataset):
        planning.read_plan(Folder.at(tmp_path / "full"))


def test_a_cap_on_pixels_goes_with_the_plan():
    with pytest.raises(BadRequest, match="max_pixels 0"):
        paper(max_pixels=0).check()
    capped = a_plan(request_of(max_pixels=123, profile="paper"))
    assert Request.of_plan(capped, prior="fake").max_pixels == 123
    older = replace(capped, params={name: value for name, value in capped.params.items() if name != "max_pixels"})
    assert Request.of_plan(older, prior="fake").max_pixels == MAX_PIXELS
