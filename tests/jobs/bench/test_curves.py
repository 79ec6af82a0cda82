"""The arithmetic of curves: means, BD-rates of known curves, the interpolation against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from jobs.bench.curves import bd_rate, compare, mean_curve, pchip

RATES = (0.05, 0.1, 0.3, 0.8, 2.0)


def curve(factor: float = 1.0, rates: tuple[float, ...] = RATES, lift: float = 0.0) -> list[dict]:
    return [{"setting": r, "bpp": factor * r, "psnr": lift + 20 + 6 * np.log2(1 + 4 * r)} for r in rates]


def percent(anchor, test, bpp=None) -> float:
    return bd_rate(anchor, test, bpp).percent


def test_bd_rate_of_known_curves():
    assert percent(curve(), curve()) == pytest.approx(0)
    assert percent(curve(), curve(0.5)) == pytest.approx(-50)
    assert percent(curve(0.5), curve()) == pytest.approx(100)
    assert percent(curve(), curve(0.9), (0.08, 0.5)) == pytest.approx(-10)


def test_bd_rate_does_not_depend_on_where_a_curve_is_sampled():
    """PSNR is linear in log-rate here, so that any points give the same curve: 2 dB at 6 dB a doubling."""

    def line(rates, lift=0.0):
        return [{"setting": r, "bpp": r, "psnr": 30 + lift + 6 * np.log2(r)} for r in rates]

    expected = 100 * (2 ** (-2 / 6) - 1)
    assert percent(line((0.1, 0.2, 1.0)), line((0.07, 0.4, 0.6), 2)) == pytest.approx(expected)
    assert percent(line((0.1, 1.0)), line((0.02, 0.3, 0.7, 5.0), 2), (0.2, 0.4)) == pytest.approx(expected)


def test_the_range_is_of_the_anchors_rate():
    """A curve that is better up to 0.2 bpp is no better where the anchor is above 0.8."""
    anchor = curve(rates=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6))
    test = [p | {"bpp": p["bpp"] * (0.5 if p["bpp"] < 0.3 else 1)} for p in anchor]
    assert percent(anchor, test, (0.8, 1.6)) == pytest.approx(0, abs=1e-9)
    assert percent(anchor, test, (0.05, 0.1)) == pytest.approx(-50, abs=1e-9)
    found = bd_rate(anchor, test, (0.05, 0.1))
    assert (found.psnr_from, found.psnr_to) == pytest.approx((anchor[0]["psnr"], anchor[1]["psnr"]))


def test_curves_that_never_meet_have_none():
    assert bd_rate(curve(), curve(lift=50)) is None
    assert bd_rate(curve(), curve(), (5.0, 9.0)) is None
    assert bd_rate(curve(), curve(rates=(0.3,))) is None
    assert bd_rate(curve(), []) is None


def test_points_worse_than_a_cheaper_one_and_lossless_points_are_left_out():
    more = [{"setting": 9, "bpp": 0.5, "psnr": 1.0}, {"setting": 10, "bpp": 9.0, "psnr": None}]
    assert percent(curve(), [*curve(0.5), *more]) == pytest.approx(-50)


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_pchip_is_scipys(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        x, y = np.cumsum(rng.uniform(0.1, 2, count)), rng.normal(size=count)
        at = np.linspace(x[0], x[-1], 101)
        np.testing.assert_allclose(pchip(x, y, at), PchipInterpolator(x, y)(at), atol=1e-9)


def test_mean_curves_average_each_setting():
    points = {
        f"image {i}": [{"setting": s, "bpp": float(s + i), "psnr": 30.0 + s, "memory_mb_encode": i} for s in (2, 1)]
        for i in (0, 1)
    }
    assert mean_curve(points) == [
        {"setting": 1, "bpp": 1.5, "psnr": 31.0, "memory_mb_encode": 1},
        {"setting": 2, "bpp": 2.5, "psnr": 32.0, "memory_mb_encode": 1},
    ]
    points["image 1"].pop()
    assert [p["setting"] for p in mean_curve(points)] == [2]
    points["image 1"][0]["psnr"] = None
    assert mean_curve(points)[0]["psnr"] is None


def test_curves_are_compared_on_the_images_that_both_have():
    hard, easy = curve(lift=-3), curve(lift=9)
    half = [p | {"bpp": p["bpp"] / 2} for p in hard]
    found = compare({"hard": hard, "easy": easy}, {"hard": half, "another": easy})
    assert (found.percent, found.images) == (pytest.approx(-50), 1)
    assert compare({"a": hard}, {"b": hard}) is None
