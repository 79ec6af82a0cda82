"""`psc bench exact`: cells of the matrix in processes of their own."""

from __future__ import annotations

import json
import sys

import click
import pytest

from jobs import bench_exact as module


@pytest.fixture
def few_cells(monkeypatch):
    def machines(quick, pythons):
        yield {"python": sys.executable, "threads": 1, "aten": "default", "onednn": "full"}
        yield {"python": sys.executable, "threads": 1, "aten": "avx2", "onednn": "AVX2"}

    def cells(quick, batches):
        yield {"arithmetic": "exact", "asked": "float32", "batch": 1}
        yield {"arithmetic": "exact", "asked": "float32_conv", "batch": 2}
        yield {"arithmetic": "exact", "asked": "nothing", "batch": 1}

    monkeypatch.setattr(module, "_machines", machines)
    monkeypatch.setattr(module, "_cells", cells)


def test_cells_agree_and_an_unusable_backend_is_told(few_cells, tmp_path):
    out = tmp_path / "exact.json"
    small = {"tiers": 2, "restore_samples": 2, "restore_steps": 1}
    report = module.bench_exact(str(out), overrides=small)
    exact, _ = report["summary"]
    assert exact["cells"] == 6
    assert exact["identical"] == 4
    assert exact["failed"] == 2
    assert [c["backend"] for c in report["cells"][:2]] == ["float32", "float32_conv"]
    assert "no exact backend 'nothing'" in report["cells"][2]["error"]
    assert json.loads(out.read_text())["summary"] == report["summary"]


def test_a_run_goes_on_where_it_stopped(few_cells, tmp_path, monkeypatch):
    out = tmp_path / "exact.json"
    cell = {"arithmetic": "exact", "asked": "float32", "batch": 1}
    monkeypatch.setattr(module, "_cells", lambda quick, batches: iter([dict(cell)]))
    small = {"tiers": 1, "restore_samples": 2, "restore_steps": 1}
    whole = module.bench_exact(str(out), overrides=small, side=16)
    kept = {**whole, "cells": [c for c in whole["cells"] if c["aten"] == "default"]}
    out.write_text(json.dumps(kept))
    ran = []
    run = module._run
    monkeypatch.setattr(module, "_run", lambda machine, *rest: ran.append(machine["aten"]) or run(machine, *rest))
    resumed = module.bench_exact(str(out), overrides=small, side=16, resume=True)
    assert ran == ["avx2"]
    assert [c.get("same") for c in resumed["cells"]] == [c.get("same") for c in whole["cells"]]
    with pytest.raises(click.UsageError, match="another request"):
        module.bench_exact(str(out), side=16, resume=True)
