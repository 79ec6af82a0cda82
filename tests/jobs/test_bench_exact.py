"""`psc bench exact`: cells of the matrix in processes of their own."""

from __future__ import annotations

import json
import sys

import click
import pytest

from jobs import bench_exact as module

SMALL = {"tiers": 2, "restore_samples": 2, "restore_steps": 1}


@pytest.fixture(scope="module")
def few_cells():
    def machines(quick, pythons):
        yield {"python": sys.executable, "threads": 1, "aten": "default", "onednn": "full"}
        yield {"python": sys.executable, "threads": 1, "aten": "avx2", "onednn": "AVX2"}

    def cells(quick, batches):
        yield {"arithmetic": "exact", "asked": "float32", "batch": 1}
        yield {"arithmetic": "exact", "asked": "native_portable", "batch": 2}
        yield {"arithmetic": "exact", "asked": "nothing", "batch": 1}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_machines", machines)
        patch.setattr(module, "_cells", cells)
        yield


@pytest.fixture(scope="module")
def out(few_cells, tmp_path_factory):
    """The report of a whole run."""
    path = tmp_path_factory.mktemp("exact") / "exact.json"
    module.bench_exact(str(path), overrides=SMALL, side=16)
    return path


def test_cells_agree_and_an_unusable_backend_is_told(out):
    report = json.loads(out.read_text())
    exact, _ = report["summary"]
    assert exact["cells"] == 6
    assert exact["identical"] == 4
    assert exact["failed"] == 2
    assert [c["backend"] for c in report["cells"][:2]] == ["float32", "native_portable"]
    assert "no exact backend 'nothing'" in report["cells"][2]["error"]


def test_a_run_goes_on_where_it_stopped(out, tmp_path, monkeypatch):
    whole, path, ran, run = json.loads(out.read_text()), tmp_path / "exact.json", [], module._run
    path.write_text(json.dumps(whole | {"cells": [c for c in whole["cells"] if c["aten"] == "default"]}))
    monkeypatch.setattr(module, "_run", lambda machine, *rest: ran.append(machine["aten"]) or run(machine, *rest))
    resumed = module.bench_exact(str(path), overrides=SMALL, side=16, resume=True)
    assert ran == ["avx2"]
    assert json.loads(path.read_text())["summary"] == resumed["summary"]
    assert [c.get("same") for c in resumed["cells"]] == [c.get("same") for c in whole["cells"]]
    with pytest.raises(click.UsageError, match="another request"):
        module.bench_exact(str(path), side=16, resume=True)
