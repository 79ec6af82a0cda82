"""The structured posterior covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.archive.lapped import LappedBasis
from psc_core.archive.variance import band_of, posterior_variance

WINDOW = 32


def basis(down: int = 3, across: int = 4, window: int = WINDOW) -> LappedBasis:
    return LappedBasis(3, down * window, across * window, window, "cpu")


def found(deviation: np.ndarray, own: LappedBasis, samples: int, shrink: float) -> np.ndarray:
    """Variance (C, W, F) from samples drawn with a deviation of each coefficient."""
    random = np.random.default_rng(7)
    z = np.rint(random.normal(size=(1, samples, *own.shape)) * deviation).reshape(1, samples, -1)
    z = torch.from_numpy(z)
    return posterior_variance(z, z.sum(dim=1) / samples, own, shrink).numpy().reshape(own.shape)


def test_many_samples_give_the_variance_that_they_were_drawn_with():
    own = basis(1, 2)
    deviation = 400.0 * (1 + np.random.default_rng(1).uniform(size=own.shape))
    assert found(deviation, own, 600, shrink=8.0) == pytest.approx(deviation**2, rel=0.35)


def test_few_samples_follow_a_law_of_frequencies_better_than_by_themselves():
    own = basis()
    deviation = np.broadcast_to(3000.0 / (1 + own.radius), own.shape)
    errors = [np.abs(np.log(found(deviation, own, 4, shrink) / deviation**2)).mean() for shrink in (8.0, 0.0)]
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize("quarter", range(4))
def test_fine_detail_of_a_quarter_is_its_own_what_is_coarse_the_windows(quarter):
    own = basis()
    fine = (band_of(own).reshape(own.shape) >= 2)[0, 0]
    there = fine & (own.quarter == quarter)
    deviation = np.full(own.shape, 100.0)
    deviation[:, 5, there] *= 8  # of one window
    variance = found(deviation, own, 6, shrink=1e6)
    usual = np.median(variance[:, :5], axis=(1, 2))
    assert (variance[:, 5, there].mean(axis=1) > 8 * usual).all()
    assert (variance[:, 5, fine & ~there].mean(axis=1) < 3 * usual).all()
    assert (variance[:, 5, ~fine].mean(axis=1) < 2 * usual).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([4, 8, 16, 64]), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_every_window_has_a_finite_variance_whose_order_of_windows_is_the_samples(window, samples, seed):
    own, random = basis(2, 2, window), np.random.default_rng(seed)
    z = torch.from_numpy(np.rint(random.normal(size=(1, samples, *own.shape)) * 1000))
    mean = z.sum(dim=1) / samples

    def variance(z_BSCWF: torch.Tensor, mean_BCWF: torch.Tensor) -> torch.Tensor:
        return posterior_variance(z_BSCWF.flatten(2), mean_BCWF.flatten(1), own, 8.0).view(1, *own.shape)

    straight = variance(z, mean)
    assert bool(torch.isfinite(straight).all())
    assert float(straight.min()) >= 1.0
    order = torch.from_numpy(random.permutation(4))
    assert torch.equal(variance(z[:, :, :, order], mean[:, :, order]), straight[:, :, order])
