"""`psc bench scale`: what is measured at every size, and the seam ratio that it reports."""

from __future__ import annotations

import json

import click
import numpy as np
import pytest

from jobs import bench_scale as module
from jobs.bench.seams import seam_ratio
from psc_core.canvas import plan_canvases

SMALL = {"tiers": 1, "samples": 2, "window": 16, "canvas": 64, "restore_samples": 2, "restore_steps": 1}


def test_every_size_is_measured_and_written(tmp_path):
    out = tmp_path / "scale.json"
    report = module.bench_scale(str(out), prior="gaussian", overrides=SMALL, sizes=("48x32", "160x96"))
    assert [r["canvases"] for r in report["results"]] == [1, 6]
    assert report["results"][0]["seam"] is None
    assert report["results"][1]["seam"] > 0 < report["results"][1]["seam_photo"]
    assert all(r["memory_mb_decode"] > 0 < r["seconds_encode"] for r in report["results"])
    assert json.loads(out.read_text()) == report


@pytest.mark.parametrize("size", ["64", "x64", "0x64", "64xwide"])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(click.UsageError, match="WIDTHxHEIGHT"):
        module.bench_scale(str(tmp_path / "scale.json"), prior="gaussian", sizes=(size,))


def test_the_ratio_sees_a_step_at_a_border_and_nothing_else():
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[:, None, None], (128, 128, 3)).copy()
    ramp += np.arange(128, dtype=np.uint8)[None, :, None]
    assert seam_ratio(ramp, 64) == pytest.approx(1.0)
    stepped = ramp.astype(np.int16)
    for canvas in plan_canvases(128, 128, 64):
        stepped[canvas.top :, canvas.left :] += 8 if canvas.top and canvas.left else 0
    assert seam_ratio((stepped // 2).astype(np.uint8), 64) > 1.5
    assert seam_ratio(ramp, 128) is None
