"""`psc bench speed`: what is measured, and beside what."""

from __future__ import annotations

import json

import click
import pytest

from jobs import bench_speed as module

SMALL = {"tiers": 1, "samples": 2, "window": 16, "restore_samples": 2, "restore_steps": 1}


def test_every_backend_is_measured_beside_float(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MACHINES", {"without VNNI": module.MACHINES["without VNNI"]})
    out = tmp_path / "speed.json"
    report = module.bench_speed(str(out), overrides=SMALL, sizes=(16,), threads=(1,), repeat=2)
    (line,) = report["results"]
    assert line["calls"]["float"]["over_float"] == 1.0
    assert {"float", "float32"} <= set(line["calls"])
    assert not set(module.VNNI) & set(line["calls"])
    assert all(found["seconds"] >= found["fastest"] > 0 for found in line["calls"].values())
    exact, plain = (line["codec"][name] for name in sorted(line["codec"], key="float".__eq__))
    assert exact["nfe_encode"] == plain["nfe_encode"] > 0
    assert exact["memory_mb"] > 0
    assert json.loads(out.read_text()) == report
    assert len(module.rows(report, "calls")) == len(line["calls"])
    assert len(module.rows(report, "codec")) == 2


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(click.ClickException, match="no prior 'nowhere'"):
        module.bench_speed(str(tmp_path / "speed.json"), prior="nowhere", threads=(1,))
