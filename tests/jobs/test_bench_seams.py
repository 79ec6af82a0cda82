"""`psc bench seams`: canvases beside one piece, on the same photographs."""

from __future__ import annotations

import json

import click
import numpy as np
import pytest
from PIL import Image

from jobs.bench.seams import gradients
from jobs.bench_seams import bench_seams
from tests.psc_core.photographs import photograph

SMALL = {"samples": 2, "window": 16, "restore_samples": 2, "restore_steps": 1}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee"):
        Image.fromarray(photograph(name, 64, 96)).save(folder / f"{name}.png")
    Image.fromarray(photograph("coffee", 32, 32)).save(folder / "small.png")
    return folder


def test_canvases_beside_one_piece(photos, tmp_path):
    out = tmp_path / "seams.json"
    report = bench_seams(str(photos), str(out), prior="gaussian", canvas=32, tiers=(0, 1), overrides=SMALL)
    assert report["images"] == 2
    assert [row["tier"] for row in report["tiers"]] == [0, 1]
    for row in report["tiers"]:
        assert row["visible_percent"] == pytest.approx(100 * (row["seam"] / row["seam_whole"] - 1))
        assert row["bpp_cut"] > row["bpp_whole"] > 0
    assert report["tiers"][1]["psnr_cut"] > report["tiers"][0]["psnr_cut"]
    assert json.loads(out.read_text()) == report


def test_images_of_one_canvas_have_no_border(photos, tmp_path):
    with pytest.raises(click.UsageError, match="none is larger than a canvas of 96 pixels"):
        bench_seams(str(photos), str(tmp_path / "seams.json"), prior="gaussian", canvas=96)


def test_gradients_are_the_mean_steps_at_and_off_the_borders():
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 10
    found = gradients(image, 32)
    assert found.across == 10.0
    assert found.elsewhere == 0.0
