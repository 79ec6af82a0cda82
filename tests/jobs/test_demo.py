"""`psc demo`: a real job on real photographs, small."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

from jobs.decompress import decompress
from jobs.demo import PHOTOGRAPHS, command


def test_the_whole_job(ray_session, tmp_path):
    out = tmp_path / "demo"
    result = CliRunner().invoke(command, [str(out), "--size", "16", "--workers", "1", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures == json.loads((out / "demo.json").read_text())
    assert {(r["image"], r["tier"]) for r in figures["rows"]} == {
        (f"{name}.png", tier) for name in PHOTOGRAPHS for tier in range(6)
    }
    for name in PHOTOGRAPHS:
        own = [r for r in figures["rows"] if r["image"] == f"{name}.png"]
        assert own[-1]["psnr"] > own[0]["psnr"] + 5
        assert sorted(r["bytes"] for r in own) == [r["bytes"] for r in own]
    sheet = Image.open(out / "contact-sheet.png")
    assert len(set(sheet.convert("L").getdata())) > 100
    decompress(str(out / "dataset"), str(tmp_path / "again"), tier=4, ids=["coffee.png"])
    again, shown = (np.asarray(Image.open(p / "coffee.png")) for p in (tmp_path / "again", out / "tier-4"))
    assert np.array_equal(again, shown)
