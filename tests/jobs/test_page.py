"""Scales and ticks in closed form, and the drawings' geometry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.page import count, duration, figure, visible
from jobs.page.charts import facets, plane
from jobs.page.scales import Scale, padded
from pipeline.dataset.figures import Histogram, Spread, Tier


def spread(mean: float) -> Spread:
    return Spread(10, mean, mean * 0.8, mean, mean * 1.2, mean * 0.5, mean * 2)


TIERS = [Tier(k, 10, 100, spread(0.1 * 2**k), spread(20.0 + 3 * k), None, 0) for k in range(3)]


def test_scales_are_linear_or_logarithmic():
    assert [Scale(0, 10, 100, 200)(v) for v in (0, 5, 10)] == [100, 150, 200]
    assert [Scale(0.1, 10, 300, 0, ratios=True)(v) for v in (0.1, 1, 10)] == [300, 150, 0]


@given(st.floats(1e-3, 1e3), st.floats(1.01, 1e4), st.booleans())
def test_ticks_are_round_and_inside(low, factor, ratios):
    scale = Scale(low, low * factor, 0, 100, ratios=ratios)
    values = [value for value, _ in scale.ticks()]
    assert 2 <= len(values) <= 12
    assert values == sorted(set(values))
    assert all(low * 0.999 <= v <= low * factor * 1.001 for v in values)
    assert len({text for _, text in scale.ticks()}) == len(values)


def test_ticks():
    assert [t for _, t in Scale(19.3, 36.8, 0, 1).ticks()] == ["20", "25", "30", "35"]
    assert [t for _, t in Scale(0.03, 1.8, 0, 1, ratios=True).ticks()] == ["0.05", "0.1", "0.2", "0.5", "1"]


def test_a_single_value_gets_a_range():
    low, high = padded(3.0, 3.0, 0.1)
    assert low < 3 < high
    low, high = padded(0.5, 0.5, 0.1, ratios=True)
    assert 0 < low < 0.5 < high


def test_the_plane_holds_every_whisker():
    drawn = plane(TIERS)
    assert [p.tier.tier for p in drawn.points] == [0, 1, 2]
    for p in drawn.points:
        assert drawn.across.start <= p.left < p.x < p.right <= drawn.across.end
        assert drawn.up.end <= p.top < p.y < p.bottom <= drawn.up.start
    assert drawn.points[0].y > drawn.points[1].y
    assert plane([Tier(0, 1, 1, spread(1.0), None, None, 0)]) is None


def test_bars_have_heights_like_their_counts():
    histogram = Histogram([1.0, 2.0, 4.0], {0: [1, 4], 1: [2, 0]})
    drawn = facets(histogram, [(t, t.bpp) for t in TIERS[:2]], ratios=True)
    first, second = drawn.facets
    assert [b.height / first.bars[1].height for b in (*first.bars, *second.bars)] == pytest.approx(
        [0.25, 1, 0.5], abs=1e-2
    )
    assert first.bars[0].width == pytest.approx(first.bars[1].width)
    assert all(b.y + b.height == pytest.approx(f.base, abs=0.02) for f in drawn.facets for b in f.bars)


def test_numbers_for_people():
    assert [figure(v) for v in (0.04575, 0.75, 1.1363, 33.0, 560.0, 12345.6, 0.0, None)] == [
        *("0.0457", "0.750", "1.14", "33.0", "560", "12346", "0.00", "–")
    ]
    assert figure(math.inf) == "inf"
    assert [duration(s) for s in (3.21, 300, 9000)] == ["3.2 s", "5.0 min", "2.5 h"]
    assert count(1234567) == "1\u202f234\u202f567"
    assert visible("a\x00\n\x7fb") == "a␀␊␡b"
