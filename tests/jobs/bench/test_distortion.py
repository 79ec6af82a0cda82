"""LPIPS is used when its weights are there, named as absent when not, and never replaced or downloaded."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from jobs.bench import distortion
from jobs.bench.distortion import Judge


@pytest.fixture
def package(monkeypatch):
    """A stand-in with the package's interface: distance = mean absolute difference."""
    module = ModuleType("lpips")

    class LPIPS(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert net == "alex"

        def forward(self, a, b):
            assert a.shape[:2] == (1, 3)
            assert -1 <= float(a.min()) <= float(a.max()) <= 1
            return (a - b).abs().mean().view(1, 1, 1, 1)

    module.LPIPS = LPIPS
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(distortion, "find_spec", lambda name: object() if name == "lpips" else None)


def test_absent_package(monkeypatch):
    monkeypatch.setattr(distortion, "find_spec", lambda name: None)
    judge = Judge()
    assert judge.learned["lpips"] == "absent: the package lpips is not installed"
    assert judge.learned["fid and kid"].startswith("absent: no feature network")
    image = np.zeros((64, 64, 3), np.uint8)
    assert "lpips" not in judge.rate_and_distortion(1, image, image)


def test_absent_weights(package, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "absent: the backbone's weights" in Judge().learned["lpips"]


def test_present(package, monkeypatch, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(b"")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    judge = Judge()
    assert judge.learned["lpips"] == "AlexNet"
    for channels in (1, 3):
        black, white = np.zeros((64, 70, channels), np.uint8), np.full((64, 70, channels), 255, np.uint8)
        assert judge.rate_and_distortion(1, black, white)["lpips"] == pytest.approx(2)
    small = np.zeros((63, 70, 3), np.uint8)
    assert judge.rate_and_distortion(1, small, small)["lpips"] is None
