"""The pipeline around the real codec, with the analytic prior and a profile of few steps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.audit import verify
from pipeline.codec import Codec
from pipeline.dataset.reader import Dataset
from pipeline.extend import extend
from pipeline.rates import truncate
from pipeline.request import Request
from pipeline.restore import decompress
from pipeline.run import compress

REQUESTS = {
    "paper": Request(
        profile="paper",
        prior="gaussian",
        overrides={"tiers": 3, "samples": 4, "rows": 3, "stages": 2, "steps": 3, "restore_samples": 2},
    ),
    "archive": Request(profile="archive", prior="gaussian", overrides={"tiers": 3, "restore_samples": 2}),
}


@pytest.fixture(scope="module", params=REQUESTS)
def request_(request):
    return REQUESTS[request.param]


@pytest.fixture(scope="module")
def dataset(ray_session, request_, tmp_path_factory):
    root = tmp_path_factory.mktemp("codec")
    (root / "src").mkdir()
    ramp = np.linspace(0, 255, 24).astype(np.uint8)
    for number in range(4):
        slope = ramp[:, None] + ramp[None, :] * number // 4
        pixels = np.stack([slope, np.tile(ramp, (24, 1)), np.tile(ramp, (24, 1)).T], -1)
        Image.fromarray(pixels.astype(np.uint8)[: 24 - number]).save(root / "src" / f"{number}.png")
    Image.fromarray(np.tile(ramp, (16, 1))).save(root / "src" / "grey.png")
    compress(str(root / "src"), str(root / "ds"), request_, workers=2)
    return root / "ds"


def pictures(folder) -> dict[str, np.ndarray]:
    return {str(p.relative_to(folder)): np.asarray(Image.open(p)) for p in sorted(folder.rglob("*.png"))}


def test_every_input_is_encoded_as_planned(dataset):
    opened = Dataset.open(str(dataset))
    rows = opened.arrow().to_table().to_pylist()
    assert [r["status"] for r in rows] == ["ok"] * 5
    assert all(r["t0_psnr"] is not None for r in rows)
    assert {r["channels"] for r in rows} == {1, 3}
    assert verify(str(dataset), deep=2).exit_code == 0


def test_workers_and_batches_do_not_change_the_bytes(dataset, request_, tmp_path):
    compress(str(dataset.parent / "src"), str(tmp_path / "ds"), request_, workers=1, batch=1)
    for part in dataset.glob("*.parquet"):
        assert (tmp_path / "ds" / part.name).read_bytes() == part.read_bytes()


def test_truncated_datasets_decode_like_the_tier(dataset, tmp_path):
    truncate(str(dataset), str(tmp_path / "small"), tier=1)
    decompress(str(tmp_path / "small"), str(tmp_path / "a"))
    result = decompress(str(dataset), str(tmp_path / "b"), tier=1)
    assert result.written == 5
    one, other = pictures(tmp_path / "a"), pictures(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert one["grey.png"].shape == (16, 24)


def test_a_rate_cap_at_encoding_equals_truncating_to_it(dataset, request_, tmp_path):
    capped = Request(**{**vars(request_), "max_bpp": 0.8})
    compress(str(dataset.parent / "src"), str(tmp_path / "capped"), capped, workers=1)
    truncate(str(dataset), str(tmp_path / "cut"), bpp=0.8)
    streams = [list(Dataset.open(str(tmp_path / name)).streams()) for name in ("capped", "cut")]
    assert streams[0] == streams[1]
    table = Dataset.open(str(tmp_path / "capped")).arrow().to_table()
    assert max(table["bpp"].to_pylist()) <= 0.8


def test_the_plan_holds_the_header_that_the_codec_writes(dataset, request_):
    prior = Codec().load(request_)
    assert Dataset.open(str(dataset)).plan.shared == Codec().shared(request_, prior)


def test_extending_continues_the_streams(dataset, tmp_path):
    truncate(str(dataset), str(tmp_path / "low"), tier=0)
    options = {"source": str(dataset.parent / "src"), "workers": 1}
    result = extend(str(tmp_path / "low"), str(tmp_path / "two"), tier=1, **options)
    assert result.notes == {"not_extended": 0}
    extend(str(tmp_path / "two"), str(tmp_path / "three"), tier=2, **options)
    direct = Dataset.open(str(dataset)).arrow().to_table().drop_columns("nfe")
    extended = Dataset.open(str(tmp_path / "three")).arrow().to_table().drop_columns("nfe")
    assert extended.equals(direct)
    assert verify(str(tmp_path / "two"), deep=5).exit_code == 0
