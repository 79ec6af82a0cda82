"""`psc calibrate-prior`: the sampler keeps its measurements, and the ratio sees over-confidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from jobs.calibrate_prior import command
from jobs.training.calibration import LowFrequencies, calibration, posterior_samples

SIZE = 16


class Gaussian:
    """The analytic denoiser of white N(0, variance) images."""

    def __init__(self, variance: float) -> None:
        self.variance = variance

    def denoise(self, x_NCHW: torch.Tensor, sigma: float) -> torch.Tensor:
        return x_NCHW * (self.variance / (self.variance + sigma**2))


def white(count: int, deviation: float) -> torch.Tensor:
    return deviation * torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_rows_are_orthonormal_and_luma_comes_first() -> None:
    operator = LowFrequencies(SIZE, 24)
    assert int(operator.mask.sum()) == 24
    assert operator.mask[0].sum() > operator.mask[1].sum() > 0
    x = white(2, 1.0)
    y = operator.measure(x)
    torch.testing.assert_close(operator.measure(operator.enforce(torch.zeros_like(x), y)), y)
    full = LowFrequencies(SIZE, 3 * SIZE**2)
    torch.testing.assert_close(full.measure(x).square().sum(), x.square().sum())


def test_samples_keep_the_measurements_and_differ() -> None:
    operator, x = LowFrequencies(SIZE, 40), white(3, 0.5)
    y = operator.measure(x)
    generator = torch.Generator().manual_seed(0)
    a, b = (posterior_samples(Gaussian(0.25), operator, y, steps=8, generator=generator) for _ in range(2))
    torch.testing.assert_close(operator.measure(a), y, atol=1e-4, rtol=0)
    assert (a - b).std() > 0.1


@pytest.mark.parametrize(("believed", "low", "high"), [(0.25, 0.8, 1.25), (0.0625, 3.2, 5.0)])
def test_the_ratio_of_an_honest_and_of_an_overconfident_prior(believed: float, low: float, high: float) -> None:
    facts = calibration(Gaussian(believed), white(6, 0.5), rows=60, samples=8, steps=40)
    assert low < facts["ratio"] < high


def test_the_command_reports_every_prior_and_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psc_core

    class Named(Gaussian):
        fingerprint = "abc"

    def load(name: str, **_: Any) -> Named:
        return Named(float(name))

    monkeypatch.setattr(psc_core, "load_prior", load)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (130, 140, 3), np.uint8)).save(tmp_path / f"{i}.png")
    options = ["--every", "--windows", "2", "--samples", "2", "--steps", "2", "--rows", "5", "--rows", "9"]
    result = CliRunner().invoke(command, [str(tmp_path), "0.25", "0.5", *options, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report) == ["0.25", "0.5"]
    assert [line["rows"] for line in report["0.5"]["calibration"]] == [5, 9]
    assert report["0.25"]["images"] == 3
    held_out = CliRunner().invoke(command, [str(tmp_path), "0.25"])
    assert held_out.exit_code == 2
    assert "held-out" in held_out.output
