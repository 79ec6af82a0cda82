"""`psc bench rd`: the arithmetic of curves, and a small run beside real codecs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.bench.curves import bd_rate, mean_curve, pchip
from jobs.bench_rd import command
from tests.psc_core.photographs import photograph


def curve(factor: float = 1.0) -> list[dict[str, float]]:
    return [{"bpp": factor * r, "psnr": 20 + 6 * np.log2(1 + 4 * r)} for r in (0.05, 0.1, 0.3, 0.8, 2.0)]


def test_bd_rate_of_known_curves():
    assert bd_rate(curve(), curve()) == pytest.approx(0)
    assert bd_rate(curve(), curve(0.5)) == pytest.approx(-50)
    assert bd_rate(curve(0.5), curve()) == pytest.approx(100)
    apart = [{"bpp": p["bpp"], "psnr": p["psnr"] + 50} for p in curve()]
    assert bd_rate(curve(), apart) is None


def test_pchip_is_scipys():
    from scipy.interpolate import PchipInterpolator

    x, y = np.array([0.0, 1, 2.5, 4, 7]), np.array([0.0, 2, 2.2, 5, 5.5])
    inner = np.linspace(1, 4, 50)
    np.testing.assert_allclose(pchip(x, y, inner), PchipInterpolator(x, y)(inner), atol=1e-9)


def test_mean_curves_average_each_setting():
    points = [{"setting": s, "bpp": float(s + i), "psnr": 30.0 + s} for s in (1, 2) for i in (0, 1)]
    assert mean_curve(points) == [
        {"setting": 1, "bpp": 1.5, "psnr": 31.0},
        {"setting": 2, "bpp": 2.5, "psnr": 32.0},
    ]


def test_a_small_run_writes_curves_and_a_plot_and_resumes(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("coffee", "chelsea"):
        Image.fromarray(photograph(name, 40, 32)).save(folder / f"{name}.png")
    out = tmp_path / "results" / "rd"
    arguments = ["--images", str(folder), "--prior", "gaussian", "--codecs", "jpeg,webp", "--out", str(out), "--json"]
    arguments += ["--set", "archive.tiers=3", "--set", "archive.canvas=64"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(out.with_suffix(".json").read_text())
    assert list(result["mean"]) == ["jpeg", "webp", "archive"]
    ours = result["mean"]["archive"]
    assert len(ours) == 3
    assert ours[0]["nfe_encode"] == 4 * (4 + 2 * 2)
    assert [p["psnr"] for p in ours] == sorted(p["psnr"] for p in ours)
    for points in result["mean"].values():
        assert [p["bpp"] for p in points] == sorted(p["bpp"] for p in points)
    assert Image.open(out.with_suffix(".png")).size[0] > 600
    assert json.loads(done.output.splitlines()[-1])["bd_rate_percent"]["jpeg"]["webp"] is not None
    again = CliRunner().invoke(command, ["--compare", str(out.with_suffix(".json"))])
    assert again.exit_code == 0
    assert "BD-rate" in again.output


def test_no_images_is_a_usage_error(tmp_path):
    done = CliRunner().invoke(command, ["--images", str(tmp_path)])
    assert done.exit_code == 2
    assert "no photographs" in done.output
