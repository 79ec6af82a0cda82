"""`psc bench exact`: cells of the matrix in processes of their own."""

from __future__ import annotations

import json

import pytest

from jobs import bench_exact as module


@pytest.fixture
def few_cells(monkeypatch):
    def cells(quick):
        base = {"threads": 1, "batch": 1, "aten": "default", "onednn": "full"}
        yield {"arithmetic": "exact", "asked": "float32", **base}
        yield {"arithmetic": "exact", "asked": "float32_conv", **base, "aten": "avx2", "onednn": "AVX2", "batch": 2}
        yield {"arithmetic": "exact", "asked": "nothing", **base}

    monkeypatch.setattr(module, "_cells", cells)


def test_cells_agree_and_an_unusable_backend_is_told(few_cells, tmp_path):
    out = tmp_path / "exact.json"
    small = {"tiers": 2, "restore_samples": 2, "restore_steps": 1}
    report = module.bench_exact(str(out), overrides=small)
    exact, _ = report["summary"]
    assert exact["cells"] == 3
    assert exact["identical"] == 2
    assert exact["failed"] == 1
    assert [c["backend"] for c in report["cells"][:2]] == ["float32", "float32_conv"]
    assert "no exact backend 'nothing'" in report["cells"][2]["error"]
    assert json.loads(out.read_text())["summary"] == report["summary"]
