"""Figures against numpy over the same rows, and over datasets that have next to nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset import figures as module
from pipeline.dataset.commit import part_name
from pipeline.dataset.figures import figures
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.reader import Dataset
from pipeline.stores.storage import Folder
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    make_images(root / "src", 30)
    for number in range(7):
        (root / "src" / f"bad{number}.jpg").write_bytes(b"no picture")
    (root / "src" / "empty.png").write_bytes(b"")
    make_dataset(root / "src", root / "ds")
    return str(root / "ds")


def rows(dataset):
    return [r for r in Dataset.open(dataset).arrow().to_table().to_pylist() if r["status"] == "ok"]


def test_spreads_are_those_of_the_rows(dataset):
    found = figures(Dataset.open(dataset))
    assert [t.tier for t in found.tiers] == [0, 1, 2, 3]
    for t in found.tiers:
        size = [len(r["image_header"]) + sum(r[f"t{j}_bytes"] for j in range(t.tier + 1)) for r in rows(dataset)]
        bpp = np.array([8 * s / (r["width"] * r["height"]) for s, r in zip(size, rows(dataset), strict=True)])
        assert (t.images, t.bpp.count, t.lossless) == (30, 30, 0)
        assert t.bytes == sum(r[f"t{t.tier}_bytes"] for r in rows(dataset))
        seen = [t.bpp.mean, t.bpp.low, t.bpp.median, t.bpp.high, t.bpp.least, t.bpp.most]
        assert np.allclose(seen, [bpp.mean(), *np.quantile(bpp, [0.1, 0.5, 0.9]), bpp.min(), bpp.max()])
        assert t.psnr.mean == pytest.approx(20 + 2 * t.tier)
        assert t.ssim.most == pytest.approx((20 + 2 * t.tier) / 100)
    assert found.source_bytes == sum(r["source_bytes"] for r in rows(dataset))


def test_histograms_hold_every_image_once_and_in_its_place(dataset):
    found = figures(Dataset.open(dataset))
    for histogram in (found.rates, found.qualities):
        assert {k: sum(v) for k, v in histogram.counts.items()} == dict.fromkeys(range(4), 30)
        assert all(a < b for a, b in zip(histogram.edges, histogram.edges[1:], strict=False))
    ratios = np.diff(np.log(found.rates.edges))
    assert np.allclose(ratios, ratios[0])
    whole = np.array([r["bpp"] for r in rows(dataset)])
    # What lies on an edge may round either way.
    held, edges = np.cumsum(found.rates.counts[3]), np.array(found.rates.edges[1:])
    below, up_to = ((whole[:, None] < edges * (1 + e)).sum(axis=0) for e in (-1e-9, 1e-9))
    assert (below <= held).all()
    assert (held <= up_to).all()


def test_failures_come_by_kind_with_some_examples(dataset):
    many, one = figures(Dataset.open(dataset)).failures
    assert (many.code, many.count, one.code, one.count) == ("unknown_format", 7, "empty_file", 1)
    assert [e["image_id"] for e in many.examples] == [f"bad{n}.jpg" for n in range(module.EXAMPLES)]
    assert "no pictu" in many.examples[0]["error"]


def test_approximate_quantiles_stay_near(dataset, monkeypatch):
    exact = figures(Dataset.open(dataset))
    monkeypatch.setattr(module, "EXACT_ROWS", 10)
    near = figures(Dataset.open(dataset))
    for a, b in zip(exact.tiers, near.tiers, strict=True):
        assert b.bpp.median == pytest.approx(a.bpp.median, rel=0.1)
        assert b.bpp.mean == pytest.approx(a.bpp.mean)


def test_a_dataset_without_streams_and_one_without_parts(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "bad.png").write_bytes(b"x")
    make_images(tmp_path / "more", 3)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    found = figures(Dataset.open(str(tmp_path / "ds")))
    assert (found.tiers, found.rates, found.qualities, found.source_bytes) == ([], None, None, 0)
    assert [f.code for f in found.failures] == ["unknown_format"]
    plan_dataset(tmp_path / "more", tmp_path / "begun")
    found = figures(Dataset.open(str(tmp_path / "begun")))
    assert (found.tiers, found.failures, found.tally.rows) == ([], [], 0)


def test_lossless_images_are_counted_apart(tmp_path):
    """An infinite PSNR has no place in a mean or a histogram."""
    make_images(tmp_path / "src", 3)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds")
    folder = Folder.at(str(tmp_path / "ds"))
    opened = Dataset.open(folder.url)
    with opened.open_part(opened.shards[0]) as part:
        before = part.read().to_pylist()
    before[0]["t3_psnr"] = float("inf")
    identity = {"fingerprint": plan.fingerprint, "shared": plan.shared, "shard": opened.shards[0], "tiers": plan.tiers}
    writer = PartWriter(tmp_path / "ds" / part_name(opened.shards[0]), **identity)
    for row in before:
        writer.add(row)
    writer.close()
    last = figures(Dataset.open(folder.url)).tiers[-1]
    assert (last.images, last.lossless, last.psnr.count, last.psnr.mean) == (3, 1, 2, 26.0)
