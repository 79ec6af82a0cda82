"""What windows tell of their neighbours before any sample is drawn."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import psc_core
from psc_core.archive.lapped import LappedBasis
from psc_core.archive.neighbours import _LAW, first_mean, first_variance
from psc_core.archive.surroundings import PHASES, phase_of
from psc_core.spectrum import initial_variance
from tests.psc_core.photographs import photograph


def basis(channels: int = 3, down: int = 3, across: int = 5, window: int = 8) -> LappedBasis:
    return LappedBasis(channels, down * window, across * window, window, "cpu")


def means(values: np.ndarray, own: LappedBasis) -> np.ndarray:
    """DC of every window: (B, C, down, across)."""
    return values.reshape(-1, own.channels, own.down, own.across, own.window, own.window)[..., 0, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([4, 8, 16]), st.integers(0, 2**32 - 1))
def test_a_mean_looks_at_windows_of_earlier_phases_alone(down, across, window, seed):
    own = basis(3, down, across, window)
    phases, random = phase_of(own), np.random.default_rng(seed)
    values = random.normal(size=(2, len(phases)))
    for phase in range(PHASES):
        changed = np.where(phases < phase, values, random.normal(size=values.shape))
        here = phases == phase
        assert np.array_equal(first_mean(values, own)[:, here], first_mean(changed, own)[:, here])


def test_windows_on_a_slope_are_expected_about_where_they_are():
    own = basis(down=5, across=6)
    values = np.zeros((1, len(phase_of(own))))
    means(values, own)[...] = np.add.outer(10.0 * np.arange(5), 7.0 * np.arange(6))
    expected = means(first_mean(values, own), own)
    row, column = np.indices((5, 6))
    inner = (row % 2 + column % 2 > 0) & (row > 0) & (row < 4) & (column > 0) & (column < 5)
    true = means(values, own)
    assert np.allclose(expected[..., inner], true[..., inner], rtol=0.1)
    assert not expected[..., (row % 2 == 0) & (column % 2 == 0)].any()


@pytest.mark.parametrize("sign", [1, -1])
def test_slopes_have_the_sign_that_the_neighbours_means_give_them(sign):
    ramp = torch.arange(40.0).mul(sign).expand(3, 24, 40)[None]
    own = basis()
    z = own.analyse(ramp.double() * 2.0**14).flatten(1).numpy()
    grid = (1, 3, 3, 5, 8, 8)
    expected, true = first_mean(z, own).reshape(grid), z.reshape(grid)
    assert (expected[:, 0, :, :, 0, 1] * true[:, 0, :, :, 0, 1] > 0).all()
    assert np.allclose(expected[:, 0, :, :, 1, 0], 0, atol=1e-6 * np.abs(true).max())


def test_neighbours_only_take_variance_away():
    own = basis()
    law = initial_variance(own, "cpu", ((606.0, 32.0, 2.15), (50.0, 0.7, 2.2), (22.0, 0.44, 2.25)))
    share = (first_variance(own, "cpu") / law).reshape(3, 3, 5, 8, 8)
    assert share.max() <= 1.0
    assert (share[:, 0, 0, 0, 0] == 1.0).all()
    assert (share[:, 1, 1, 0, 0] < share[:, 0, 0, 0, 0]).all()
    assert share[0, 1, 2, 0, 0] == 0.2
    assert share[0, 0, 1, 0, 0] == 0.24
    assert (share[..., 3:, 3:] == 1.0).all()


def test_a_single_window_and_latents_expect_nothing():
    for own in (basis(down=1, across=1), basis(channels=4)):
        values = np.ones((1, len(phase_of(own))))
        assert np.abs(first_mean(values, own)).max() < 1e-12
    latents = basis(channels=4)
    assert torch.equal(first_variance(latents, "cpu"), initial_variance(latents, "cpu"))


def test_a_flat_picture_of_many_windows_costs_little_more_than_one_window():
    prior = psc_core.load_prior("photo", device="cpu")
    profile = psc_core.get_profile("archive", tiers=1, samples=2, first_steps=1, window=16)
    sizes = [
        len(psc_core.encode(np.full((side, side, 3), (200, 90, 40), np.uint8), prior, profile).tiers[0].data)
        for side in (16, 96)
    ]
    assert sizes[1] < 4 * sizes[0], sizes  # thirty-six windows


def test_a_photograph_costs_less_with_its_neighbours(monkeypatch):
    prior, image = psc_core.load_prior("photo", device="cpu"), photograph("astronaut", 96, 96)
    profile = psc_core.get_profile("archive", tiers=1, samples=2, first_steps=1, window=16)
    told = len(psc_core.encode(image, prior, profile).tiers[0].data)
    monkeypatch.setattr("psc_core.archive.canvases.first_mean", lambda values, basis: np.zeros_like(values))
    monkeypatch.setattr("psc_core.archive.canvases.first_variance", partial(initial_variance, law=_LAW))
    assert told < 0.97 * len(psc_core.encode(image, prior, profile).tiers[0].data)
