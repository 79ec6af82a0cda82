"""The schedule against its closed formula (Karras et al. 2022, eq. 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psc_core.samplers.schedule import karras


@given(st.integers(2, 100), st.floats(0.5, 300), st.floats(1e-4, 0.4))
def test_levels_are_those_of_the_formula(steps, high, low):
    levels = karras(steps, high, low)
    closed = [(high ** (1 / 7) + i / (steps - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(steps)]
    assert levels == pytest.approx(closed, rel=1e-12)
    assert list(levels) == sorted(levels, reverse=True)


def test_one_step_is_the_highest_level():
    assert karras(1, 80.0, 0.002) == (80.0,)
