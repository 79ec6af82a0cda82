"""Decimal functions against the C library's, to one unit in the last place."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from psc_core.exact import transcendental


def within_an_ulp(mine: float, libm: float) -> bool:
    return math.nextafter(libm, -math.inf) <= mine <= math.nextafter(libm, math.inf)


@given(st.floats(-700, 700))
def test_exp(x):
    assert within_an_ulp(transcendental.exp(x), math.exp(x))


@given(st.floats(1e-300, 1e300))
def test_ln(x):
    assert within_an_ulp(transcendental.ln(x), math.log(x))


@given(st.floats(-1e6, 1e6))
def test_sine_and_cosine(x):
    sin, cos = transcendental.sin_cos(x)
    assert within_an_ulp(sin, math.sin(x))
    assert within_an_ulp(cos, math.cos(x))


@given(st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_power(x, y):
    assert within_an_ulp(transcendental.power(x, y), math.pow(x, y))


@given(st.floats(-6, 6))
def test_error_function(x):
    assert within_an_ulp(transcendental.erf(x), math.erf(x))


@given(st.floats(-40, 40))
def test_sigmoid_and_its_mirror_sum_to_one(x):
    assert abs(transcendental.sigmoid(x) + transcendental.sigmoid(-x) - 1) <= 2.0**-52


@given(st.integers(-10_000, 10_000), st.integers(1, 2000))
def test_cosines_of_rational_angles(n, d):
    assert abs(transcendental.cos_pi(n, d) - math.cos(math.pi * (n % (2 * d)) / d)) < 1e-14


def test_right_angles_are_exact():
    assert [transcendental.cos_pi(n, 2) for n in (0, 2, 4)] == [1.0, -1.0, 1.0]
    assert abs(transcendental.cos_pi(1, 2)) < 1e-37
