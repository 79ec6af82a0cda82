"""What a stage measures of a coefficient hangs on its deviation alone: closed forms, on a canvas of zeros."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psc_core.archive.cells import SIGNIFICANT, UNKNOWN, ZERO, Cells
from psc_core.archive.lapped import LappedBasis
from psc_core.archive.predictive import PredictiveCoder
from psc_core.archive.scales import scale_of
from psc_core.profiles import get_profile
from psc_core.sides import DecoderSide, EncoderSide

SIDE = 32
STEP = 0.5
WIDTH = STEP * 2.0**14


def stage(deviation: float, truth: float = 0.0, **changes: float) -> Cells:
    """Cells (1, K) after one stage around 0, coded and decoded, of a grey image ``truth``; all variances alike."""
    profile = get_profile("archive", **changes)
    basis = LappedBasis(3, SIDE, SIDE, 32, "cpu")
    size = 3 * SIDE * SIDE
    variance = torch.full((1, size), (deviation * WIDTH) ** 2, dtype=torch.float64)
    image = torch.full((1, 3, SIDE, SIDE), truth)
    encoder, both = EncoderSide(image), []
    for side in (lambda: encoder, lambda: DecoderSide(encoder.finish())):
        cells = Cells(basis, 1, "cpu")
        PredictiveCoder(profile, cells).stage(side(), lambda _: np.zeros((1, size)), variance, STEP)
        both.append(cells)
    for field in ("low", "high", "kind"):
        assert torch.equal(getattr(both[0], field), getattr(both[1], field))
    return both[1]


@pytest.mark.parametrize("deviation", [0.4, 1.0, 3.0, 40.0])
def test_the_zero_bin_is_wider_where_the_deviation_is_small(deviation):
    cells = stage(deviation)
    assert cells.kind[0, 0] == ZERO
    half = (cells.high - cells.low).numpy() / 2 / WIDTH
    measured = half[(cells.kind == ZERO).numpy()]
    assert measured.min() >= 0.65 - 1e-4
    assert measured.max() <= 1.1 + 1e-4
    # The first phase, which no neighbour of the stage precedes: (0, 0), under the scale that a stage has sent.
    scaled = deviation * np.sqrt([scale_of(index) for index in range(16)])
    expected = 0.65 + 0.45 / (1 + scaled**2)
    assert np.abs(expected - half[0, 0]).min() < 1e-4


def test_one_dead_zone_for_all_deviations():
    for deviation in (0.5, 40.0):
        cells = stage(deviation, dead_zone=0.8, dead_zone_far=0.8)
        assert torch.allclose(cells.high, torch.full_like(cells.high, 0.8 * WIDTH), atol=1.0)


def test_what_varies_too_little_is_not_measured():
    cells = stage(1e-3)
    assert (cells.kind == UNKNOWN).all()


@pytest.mark.parametrize("truth", [-0.9, 0.3, 0.7])
def test_cells_hold_the_truth(truth):
    """Also of the grey level, whose bin is far beyond the last symbol."""
    cells = stage(1.0, truth)
    level = round(truth * 2**14) * np.sqrt(3.0) * SIDE
    assert cells.kind[0, 0] == SIGNIFICANT
    assert float(cells.low[0, 0]) - 2 <= level <= float(cells.high[0, 0]) + 2
    assert float(cells.high[0, 0] - cells.low[0, 0]) == pytest.approx(WIDTH, abs=2)
    assert (cells.kind[0, 1:] != SIGNIFICANT).all()


def test_a_cell_of_one_value_costs_nothing():
    profile, basis = get_profile("archive"), LappedBasis(3, SIDE, SIDE, 32, "cpu")
    sizes = []
    for points in (False, True):
        cells = Cells(basis, 1, "cpu")
        if points:
            cells.low[:, 1:] = cells.high[:, 1:] = 200.0
            cells.kind[:, 1:] = ZERO
        side = EncoderSide(torch.zeros(1, 3, SIDE, SIDE))
        size = cells.low.shape[1]
        variance = torch.full((1, size), (5.0 * WIDTH) ** 2, dtype=torch.float64)
        PredictiveCoder(profile, cells).stage(side, lambda _, n=size: np.full((1, n), 400.0), variance, STEP)
        sizes.append(len(side.finish()[0]))
        assert not points or bool((cells.high[:, 1:] == 200.0).all())
    assert sizes[1] < 8 < sizes[0]


@pytest.mark.parametrize(("bound", "kind"), [(2.0**24 - 1, torch.float32), (2.0**24 + 1, torch.float64)])
def test_cells_are_kept_in_half_the_memory_where_that_loses_nothing(bound, kind):
    cells = Cells(LappedBasis(3, SIDE, SIDE, 32, "cpu"), 2, "cpu")
    cells.low[1, 5] = -bound
    alone = cells.alone(1)
    assert alone.low.dtype == kind
    assert torch.equal(alone.low.double(), cells.low[1:])
    assert alone.high.dtype == torch.float32
