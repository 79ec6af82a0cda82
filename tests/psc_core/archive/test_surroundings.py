"""What is known around a coefficient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.archive.cells import SIGNIFICANT, UNKNOWN, ZERO
from psc_core.archive.lapped import LappedBasis
from psc_core.archive.surroundings import PHASES, Surroundings, clustering, phase_of


def basis(down: int = 2, across: int = 3, window: int = 8) -> LappedBasis:
    return LappedBasis(3, down * window, across * window, window, "cpu")


def test_phases_leave_no_two_neighbours_in_one():
    own = basis(4, 4)
    phases = phase_of(own).reshape(3, 4, 4, 8, 8)
    assert set(phases.reshape(-1)) == set(range(PHASES))
    places = phases[0, 0, 0]
    for along in (places, places.T):
        assert (along[2:] != along[:-2]).all()  # the next frequency of the same half
        assert (along[2::2] != along[3::2]).all()  # the same frequency of the other half
    windows = phases[0, :, :, 0, 0]
    assert (windows[1:] != windows[:-1]).all()
    assert (windows[:, 1:] != windows[:, :-1]).all()
    assert phases[..., 0, 0].max() < phases.reshape(3, 4, 4, 64)[..., 1:].min()


def test_clusters_are_the_power_of_their_count():
    own = basis()
    kind = np.full((1, 3, 2, 3, 8, 8), ZERO, dtype=np.int8)
    kind[0, 0, 0, 1, 3, 3] = SIGNIFICANT
    found = clustering(kind.reshape(1, -1), own).reshape(kind.shape)
    touched = np.zeros(kind.shape, dtype=bool)
    touched[0, 0, 0, 1, 2:5, 2:5] = True
    touched[0, 0, 0, 1, 3, 3] = False
    touched[0, 0, [0, 0, 1], [0, 2, 1], 3, 3] = True
    assert np.allclose(found[touched], 2**0.4)
    assert (found[~touched] == 1.0).all()
    everywhere = clustering(np.full((1, kind.size), SIGNIFICANT, dtype=np.int8), own).reshape(kind.shape)
    assert everywhere[0, 0, 0, 1, 3, 3] == pytest.approx((1 + 8 + 3) ** 0.4)  # no window above the first row
    assert (clustering(np.full((1, kind.size), UNKNOWN, dtype=np.int8), own) == 1.0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_larger_errors_around_widen_and_zeros_narrow(seed, size):
    own, random = basis(), np.random.default_rng(seed)
    place, near = (np.flatnonzero(phase_of(own) == phase) for phase in (3, 4))
    deviation = random.uniform(0.2, 0.5, size=len(place))  # bin 1 begins at 1: at least two deviations away
    for bins, widens in ((np.full(len(place), size), True), (np.zeros(len(place)), False)):
        around = Surroundings(1, own)
        assert (around.factor() == 1.0).all()
        around.measured(0, place, bins, deviation, width=1.0, dead=1.0)
        factor = around.factor()[0]
        if widens:
            assert (factor[near] > 1.3).all()
        else:
            assert (factor[near] < 1.0).all()


def test_zeros_that_were_certain_say_nothing_and_surprising_ones_much():
    own = basis()
    place, near = (np.flatnonzero(phase_of(own) == phase) for phase in (3, 4))
    found = []
    for deviation in (0.01, 0.3, 30.0):  # of a zero bin up to 1
        around = Surroundings(1, own)
        around.measured(0, place, np.zeros(len(place)), np.full(len(place), deviation), width=1.0, dead=1.0)
        found.append(float(around.factor()[0][near].max()))
    assert found[0] == pytest.approx(1.0, abs=0.01)
    assert found[0] > found[1] > found[2]


def test_a_window_hears_nothing_of_the_next():
    own = basis()
    around = Surroundings(2, own)
    phases = phase_of(own).reshape(3, 2, 3, 64)
    place = np.flatnonzero((phases == 3) & (np.arange(3)[:, None] == 1)[None, None].reshape(1, 1, 3, 1))
    around.measured(1, place, np.full(len(place), 8), np.ones(len(place)), width=1.0, dead=1.0)
    factor = around.factor().reshape(2, 3, 2, 3, 64)
    assert (factor[0] == 1.0).all()
    assert (factor[1][:, :, [0, 2]] == 1.0).all()
    assert (factor[1][:, :, 1] > 1.0).any()
