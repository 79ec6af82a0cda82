"""Bins and cells belong together, wherever a coefficient is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psc_core.archive.quantizer import BINS, Quantizer
from psc_core.profiles import get_profile

NUMBERS = st.floats(-1e6, 1e6)


@given(NUMBERS, NUMBERS, st.floats(1.0, 1e6), st.floats(4.0, 1e5))
def test_a_coefficient_lies_in_the_cell_of_its_bin(z, centre, deviation, width):
    one = np.array([z])
    quantizer = Quantizer.around(np.array([centre]), np.array([deviation]), width, get_profile("archive"))
    low, high = quantizer.cells(quantizer.bins(one))
    assert low[0] - 0.51 <= z <= high[0] + 0.51


@given(NUMBERS, st.floats(1.0, 1e6), st.floats(4.0, 1e5))
def test_edges_are_those_of_the_cells(centre, deviation, width):
    quantizer = Quantizer.around(np.array([centre]), np.array([deviation]), width, get_profile("archive"))
    edges = quantizer.edges()[0]
    assert len(edges) == 2 * BINS + 2
    for place, size in enumerate(range(1 - BINS, BINS), start=1):
        low, high = quantizer.cells(np.array([size]))
        assert abs(low[0] - centre - edges[place]) < 0.51
        assert abs(high[0] - centre - edges[place + 1]) < 0.51
