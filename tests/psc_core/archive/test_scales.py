"""Which scale index the encoder chooses: errors of a known law, none, and few."""

from __future__ import annotations

import numpy as np
import pytest

from psc_core.archive.scales import SCALES, fitting, scale_of


@pytest.mark.parametrize("index", range(2, 14))
def test_the_scale_of_many_errors_is_found(index):
    draws = np.random.default_rng(index)
    variance = draws.uniform(0.5, 2.0, 20000) * 1e6
    errors = draws.laplace(0.0, np.sqrt(variance * scale_of(index) / 2.0))
    assert fitting(errors, variance, expected=index, least=0.0) == index
    assert abs(fitting(errors, variance, expected=8, least=0.0) - index) <= 1


@pytest.mark.parametrize("expected", [0, 5, SCALES - 1])
def test_without_coefficients_it_is_the_expected_one(expected):
    nothing = np.zeros(0)
    assert fitting(nothing, nothing, expected, least=1.0) == expected
    small = np.ones(100)
    assert fitting(small * 1e3, small, expected, least=1e9) == expected, "none of them is coded"


def test_few_coefficients_hardly_move_it():
    errors, variance = np.full(2, 4e3), np.full(2, 1e6)
    assert fitting(errors, variance, expected=4, least=0.0) in (4, 5)
    assert fitting(np.full(2000, 4e3), np.full(2000, 1e6), expected=4, least=0.0) > 7
