from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import psc_core
from pipeline.dataset import commit as committing
from pipeline.dataset.parts import concat_rows
from pipeline.dataset.reader import Dataset
from pipeline.errors import AlreadyADataset, BadRequest, CorruptPart, NotADataset, PlanDiffers, TargetNotWritable
from pipeline.inputs.images import Facts
from pipeline.rates import truncate, truncated
from pipeline.request import Request
from pipeline.sources import Item, Source
from pipeline.workers.rows import Loaded, failed_row, ok_row
from psc_core.errors import TierOutOfRange
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, fake_stream

TIERS = 4
CUTS = Request(profile="diffc", overrides={"tiers": 4, "steps": 3})
"""Three cut points a tier."""
SHARED = psc_core.SharedHeader.from_json(FakeCodec().shared(CUTS, FakeCodec().load(CUTS)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("rates")
    make_images(root / "src", 12)
    (root / "src" / "broken.jpg").write_bytes(b"no")
    make_dataset(root / "src", root / "ds", CUTS)
    return str(root / "ds")


def row_of(height: int, width: int, seed: int, ok: bool) -> dict:
    item = Item(f"{seed}", "/x", 10)
    if not ok:
        return failed_row(Loaded(item), Source("/"), ValueError("bad"))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)
    return ok_row(Loaded(item, pixels, Facts("", 10)), Source("/"), fake_stream(pixels, SHARED))


def reference(row: dict, bpp: float) -> dict:
    """One row cut the slow way, by the container's own truncation."""
    if row["status"] != "ok":
        return {}
    tiers = [row[f"tier_{k}"] for k in range(TIERS)]
    stream = psc_core.Stream.from_parts(SHARED, row["image_header"], tiers)
    try:
        short = stream.truncate(max_bytes=stream.bytes_at(bpp) + len(SHARED.to_bytes()))
    except TierOutOfRange:
        short = psc_core.Stream(SHARED, stream.image, ())
    kept = {"bytes": len(row["image_header"]) + sum(len(t.data) for t in short.tiers)}
    for k, tier in enumerate(short.tiers):
        whole = tier.data == tiers[k]
        kept |= {f"tier_{k}": tier.data, f"t{k}_bytes": len(tier.data), f"t{k}_cuts": list(tier.cuts)}
        kept[f"t{k}_psnr"] = row[f"t{k}_psnr"] if whole else None
    return kept


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.booleans())


def test_no_cut_before_all_canvases_have_begun():
    profile = Request(profile="paper", overrides={"canvas": 16})
    shared = psc_core.SharedHeader.from_json(FakeCodec().shared(profile, FakeCodec().load(profile)))
    pixels = np.zeros((40, 18, 1), np.uint8)
    whole = fake_stream(pixels, shared)
    row = ok_row(Loaded(Item("0", "/x", 10), pixels, Facts("", 10)), Source("/"), whole)
    assert whole.canvases == 6 == len(whole.tiers[0].chunks)
    seen = set()
    for budget in range(len(whole.image_header), whole.nbytes - len(shared.to_bytes()) + 1):
        short = truncated(concat_rows([row], TIERS), TIERS, 8 * budget / (40 * 18)).to_pylist()[0]
        tiers = [short[f"tier_{k}"] for k in range(TIERS) if short[f"tier_{k}"] is not None]
        chunks = [len(t.chunks) for t in psc_core.Stream.from_parts(shared, row["image_header"], tiers).tiers]
        assert not chunks or chunks[0] == 6
        seen.add(sum(chunks))
    assert seen == {0, *range(6, 25)}


@pytest.mark.parametrize("change", [{"t1_cuts": [200_000]}, {"t1_cuts": [-1]}, {"t1_bytes": 1}])
def test_figures_that_are_not_of_the_bytes_are_refused(change):
    rows = [row_of(9, 9, seed, True) for seed in (1, 2)]
    damaged = concat_rows([rows[0], rows[1] | change], TIERS)
    with pytest.raises(CorruptPart, match="tier 1 of row 1"):
        truncated(damaged, TIERS, 1e6)


@settings(deadline=None, max_examples=60)
@given(shapes=st.lists(shapes, min_size=1, max_size=8), bpp=st.floats(0.01, 20), skip=st.integers(0, 2))
def test_a_budget_cuts_every_row_like_the_container_does(shapes, bpp, skip):
    rows = [row_of(*shape) for shape in shapes]
    # A slice, so that the arrays do not begin where their buffers do.
    table = concat_rows([row_of(9, 9, 1, True)] * skip + rows, TIERS).slice(skip)
    short = truncated(table, TIERS, bpp)
    assert short.schema.equals(table.schema)
    short.validate(full=True)
    for before, after in zip(rows, short.to_pylist(), strict=True):
        expected = reference(before, bpp)
        names = [
            "bytes",
            *(
                f"{a}{k}{b}"
                for k in range(TIERS)
                for a, b in (("tier_", ""), ("t", "_bytes"), ("t", "_cuts"), ("t", "_psnr"))
            ),
        ]
        assert {n: after[n] for n in names} == {n: expected.get(n) for n in names}


@pytest.mark.parametrize("tier", [0, 1, 3])
def test_to_a_tier(dataset, tmp_path, tier):
    result = truncate(dataset, str(tmp_path / "t"), tier=tier)
    assert result.exit_code == 0
    short = Dataset.open(str(tmp_path / "t"))
    assert short.tiers == tier + 1
    assert short.arrow().schema.names[-1] == f"tier_{tier}"
    pairs = zip(Dataset.open(dataset).streams(), short.streams(), strict=True)
    for (name, whole), (same, cut) in pairs:
        assert name == same
        assert cut == whole.truncate(tier=tier)
        cut.verify()
    failed = short.arrow().to_table(filter=pa.compute.field("status") != "ok").to_pylist()
    assert [r["image_id"] for r in failed] == ["broken.jpg"]
    assert (
        short.tally().bytes
        == sum(m["bytes"] for m in short.markers)
        < Dataset.open(dataset).tally().bytes + (tier == 3)
    )


@pytest.mark.parametrize("bpp", [0.02, 0.3, 1.0, 100])
def test_to_a_budget(dataset, tmp_path, bpp):
    result = truncate(dataset, str(tmp_path / "t"), bpp=bpp)
    rows = Dataset.open(str(tmp_path / "t")).arrow().to_table().to_pylist()
    ok = [r for r in rows if r["status"] == "ok"]
    assert len(rows) == 13
    assert all(r["bpp"] <= bpp or r["tier_0"] is None for r in ok)
    assert result.notes["without_tiers"] == sum(r["tier_0"] is None for r in ok)
    assert (result.notes["without_tiers"] == 12) == (bpp == 0.02)
    for _, stream in Dataset.open(str(tmp_path / "t")).streams():
        stream.verify()


def test_truncating_in_steps_is_truncating_at_once(dataset, tmp_path):
    truncate(dataset, str(tmp_path / "a"), tier=2)
    truncate(str(tmp_path / "a"), str(tmp_path / "b"), bpp=0.6)
    truncate(dataset, str(tmp_path / "c"), bpp=0.6)
    twice, once = Dataset.open(str(tmp_path / "b")), Dataset.open(str(tmp_path / "c"))
    assert list(twice.streams()) == list(once.streams())


def test_an_interrupted_one_resumes_to_the_same_bytes(dataset, tmp_path, monkeypatch):
    truncate(dataset, str(tmp_path / "whole"), tier=1)
    calls = []
    commit = committing.commit

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return commit(*args, **kwargs)

    monkeypatch.setattr("pipeline.rates.commit", failing)
    with pytest.raises(psc_core.PscError, match="No space left"):
        truncate(dataset, str(tmp_path / "t"), tier=1)
    monkeypatch.undo()
    with pytest.raises(AlreadyADataset):
        truncate(dataset, str(tmp_path / "t"), tier=1)
    with pytest.raises(PlanDiffers, match="tier"):
        truncate(dataset, str(tmp_path / "t"), tier=2, resume=True)
    truncate(dataset, str(tmp_path / "t"), tier=1, resume=True)
    names = sorted(p.name for p in (tmp_path / "whole").glob("*.parquet"))
    assert all((tmp_path / "t" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)


def test_wrong_use_writes_nothing(dataset, tmp_path):
    target = tmp_path / "t"
    (tmp_path / "file").write_text("x")
    make_images(tmp_path / "src", 4)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "half")
    run_shards(plan, encoder, tmp_path / "half", [0])
    for error, arguments in [
        (TierOutOfRange, {"tier": 4}),
        (TierOutOfRange, {"tier": -1}),
        (BadRequest, {"bpp": 0.0}),
        (BadRequest, {}),
        (BadRequest, {"tier": 1, "bpp": 1.0}),
        (NotADataset, {"tier": 0, "dataset": str(tmp_path / "src")}),
        (NotADataset, {"tier": 0, "dataset": str(tmp_path / "missing")}),
        (NotADataset, {"tier": 0, "dataset": str(tmp_path / "half")}),
        (TargetNotWritable, {"tier": 0, "target": str(tmp_path / "file")}),
        (TargetNotWritable, {"tier": 0, "target": "/proc/t"}),
    ]:
        with pytest.raises(error):
            truncate(**{"dataset": dataset, "target": str(target)} | arguments)
        assert not target.exists()


def test_it_imports_neither_torch_nor_ray(dataset, tmp_path):
    script = (
        "import sys; sys.argv = ['psc', 'truncate', *sys.argv[1:]]\n"
        "from jobs.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'ray', 'diffusers', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", script, dataset, str(tmp_path / "t"), "--bpp", "0.5"]
    subprocess.run(command, check=True, timeout=60)
