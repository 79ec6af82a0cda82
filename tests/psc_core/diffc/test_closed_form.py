"""The closed forms against each other and against what the codec measures under the Gaussian prior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import psc_core
from psc_core.diffc import closed_form
from psc_core.diffc.canvases import DiffCCanvases
from psc_core.priors.gaussian import GaussianPrior, sample_image
from psc_core.sides import EncoderSide

SPECTRUM = np.geomspace(1e-3, 30.0, 40)
SIDE, IMAGES = 32, 5
FAITHFUL = psc_core.get_profile(
    "diffc",
    tiers=3,
    sigma=0.15,
    ratio=0.35,
    first_steps=16,
    steps=4,
    threshold=0.01,
    chunk_bits=6,
    candidates=13,
    flow_steps=20,
    ancestral_steps=200,
)
"""Nearly everything is sent and every sample is nearly exact: DiffC as published, whatever it costs in overhead."""


def test_flow_halves_the_distortion_of_ancestral_sampling_at_high_rate_alone():
    high, low = (closed_form.ancestral(SPECTRUM, s) / closed_form.flow(SPECTRUM, s) for s in (1e-3, 1e3))
    assert 10 * math.log10(high) == pytest.approx(10 * math.log10(2), abs=0.01)
    assert low == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("slope", [1e-3, 0.1, 3.0])
def test_the_ideal_is_stationary_and_nothing_realistic_is_below_it(slope):
    rate, distortion = closed_form.ideal(SPECTRUM, slope)
    more_rate, less_distortion = closed_form.ideal(SPECTRUM, slope * 0.999)
    assert (distortion - less_distortion) / (more_rate - rate) == pytest.approx(2 * math.log(2) * slope, rel=1e-2)
    sigma = _solve(lambda s: closed_form.rate(SPECTRUM, s), rate)
    assert distortion <= closed_form.flow(SPECTRUM, sigma) * (1 + 1e-9)
    level = _solve(lambda v: closed_form.shannon(SPECTRUM, v)[0], rate)
    assert closed_form.shannon(SPECTRUM, level)[1] < distortion


def test_isotropic_noise_is_ideal_for_white_data():
    white = np.full(7, 0.3)
    rate, distortion = closed_form.ideal(white, 0.05)
    sigma = _solve(lambda s: closed_form.rate(white, s), rate)
    assert closed_form.flow(white, sigma) == pytest.approx(distortion)


def _solve(falling, value: float) -> float:
    low, high = 1e-9, 1e9
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return low


@pytest.fixture(scope="module")
def measured():
    """(level, bits of KL an image, bits an image, {restoration: summed squared error an image}) at every cut point."""
    prior = GaussianPrior(corner=0.2)
    truth = torch.stack([torch.from_numpy(sample_image(prior, SIDE, SIDE, i)).float() for i in range(IMAGES)])
    canvases, side = DiffCCanvases(prior, FAITHFUL, (SIDE, SIDE), range(IMAGES), 0), EncoderSide(truth)
    divergence: list[float] = []
    canvases.watch = lambda mu, v: divergence.append(_divergence(mu, v))
    rows, bits = [], 0
    for _ in range(FAITHFUL.tiers):
        for _ in range(FAITHFUL.steps):
            canvases.run_group(side)
            bits += 8 * sum(map(len, side.finish()))
        errors = {
            how: float(((canvases.restore(how).double() - truth) ** 2).sum()) / IMAGES
            for how in ("mean", "flow", "ancestral")
        }
        rows.append((canvases.level, sum(divergence) / IMAGES, bits / IMAGES, errors))
    return prior.spectrum(SIDE, SIDE).numpy(), rows


def _divergence(mu: np.ndarray, variance: np.ndarray) -> float:
    """D_KL of N(mu, 1) from N(0, 1 + v), in bits."""
    return float((np.log1p(variance) + (1 + mu**2) / (1 + variance) - 1).sum() / 2 / math.log(2))


def test_rate_and_distortion_follow_the_analytic_curves(measured):
    """Measured: rate within 2 %, distortions within 3 %."""
    spectrum, rows = measured
    for level, divergence, _, errors in rows:
        assert divergence == pytest.approx(closed_form.rate(spectrum, level), rel=0.05)
        assert errors["mean"] == pytest.approx(closed_form.denoised(spectrum, level), rel=0.05)
        assert errors["flow"] == pytest.approx(closed_form.flow(spectrum, level), rel=0.05)
        assert errors["ancestral"] == pytest.approx(closed_form.ancestral(spectrum, level), rel=0.05)


def test_flow_gains_three_decibels_at_high_rate(measured):
    *_, errors = measured[1][-1]
    assert 10 * math.log10(errors["ancestral"] / errors["flow"]) == pytest.approx(3.0, abs=0.25)


def test_the_coder_pays_for_its_samples_what_chunks_of_few_bits_must(measured):
    """Chunks of 6 bits cost 1.6 times their KL here; the default's longer chunks are measured on photographs."""
    _, rows = measured
    for _, divergence, bits, _ in rows:
        assert 1.0 < bits / divergence < 1.9
