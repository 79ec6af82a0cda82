"""`psc bench seams`: canvases beside one piece, on the same photographs."""

from __future__ import annotations

import json

import click
import numpy as np
import pytest
from PIL import Image

import psc_core
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
        assert row["bpp_cut"] > row["bpp_whole"] > 0
    assert report["tiers"][1]["psnr_cut"] > report["tiers"][0]["psnr_cut"]
    assert json.loads(out.read_text()) == report


def test_the_ratios_are_those_of_what_decodes(tmp_path):
    image, out = photograph("coffee", 64, 32), tmp_path / "seams.json"
    Image.fromarray(image).save(tmp_path / "coffee.png")
    row = bench_seams(str(tmp_path / "coffee.png"), str(out), prior="gaussian", canvas=32, tiers=(1,), overrides=SMALL)
    prior, ratios = psc_core.load_prior("gaussian"), {}
    for name, canvas, side in (("seam", 32, 32), ("seam_whole", 64, 32), ("windows", 64, SMALL["window"])):
        profile = psc_core.get_profile("archive", **SMALL, tiers=2, canvas=canvas)
        found = gradients(psc_core.decode(psc_core.encode(image, prior, profile), prior), side)
        ratios[name] = found.across / found.elsewhere
        assert row["tiers"][0][name] == pytest.approx(ratios[name])
    visible = 100 * (ratios["seam"] / ratios["seam_whole"] - 1)
    assert row["tiers"][0]["visible_percent"] == pytest.approx(visible)


def test_a_flat_picture_has_no_seam(tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "black.png")
    out = str(tmp_path / "seams.json")
    report = bench_seams(str(tmp_path), out, prior="gaussian", canvas=32, tiers=(0,), overrides=SMALL)
    assert np.isfinite(report["tiers"][0]["visible_percent"])


@pytest.mark.parametrize("field", ["canvas", "tiers"])
def test_what_other_options_say_is_not_set_twice(photos, tmp_path, field):
    with pytest.raises(click.UsageError, match="give --canvas and --tier instead"):
        bench_seams(str(photos), str(tmp_path / "seams.json"), prior="gaussian", overrides={field: 64})


def test_images_of_one_canvas_have_no_border(photos, tmp_path):
    with pytest.raises(click.UsageError, match="none is larger than a canvas of 96 pixels"):
        bench_seams(str(photos), str(tmp_path / "seams.json"), prior="gaussian", canvas=96)


def test_gradients_are_the_mean_steps_at_and_off_the_borders():
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 10
    found = gradients(image, 32)
    assert found.across == 10.0
    assert found.elsewhere == 0.0
