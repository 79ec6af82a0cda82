"""The geometry of the page's drawings; the templates turn it into SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.page.scales import Scale, padded
from pipeline.dataset.figures import Figures, Histogram, Spread, Tier


@dataclass(frozen=True)
class Axis:
    """Ticks as pixels and texts, between two ends in pixels."""

    ticks: list[tuple[float, str]]
    start: float
    end: float

    @classmethod
    def of(cls, scale: Scale, wanted: int = 5) -> Axis:
        return cls([(scale(value), text) for value, text in scale.ticks(wanted)], scale.start, scale.end)


@dataclass(frozen=True)
class Point:
    """A tier's mean, and the first and last decile either way, in pixels."""

    tier: Tier
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Plane:
    """Mean PSNR over mean rate."""

    width: int
    height: int
    across: Axis
    up: Axis
    points: list[Point]

    @property
    def line(self) -> str:
        """The means, as the points of a polyline."""
        return " ".join(f"{p.x},{p.y}" for p in self.points)


def plane(tiers: Sequence[Tier], *, width: int = 460, height: int = 330) -> Plane | None:
    """The rate-distortion picture of the tiers whose quality is known; None without any."""
    known = [(t, t.bpp, t.psnr) for t in tiers if t.psnr is not None]
    if not known:
        return None
    low, high = padded(min(b.low for _, b, _ in known), max(b.high for _, b, _ in known), 0.04, ratios=True)
    across = Scale(low, high, 52, width - 12, ratios=True)
    low, high = padded(min(q.low for *_, q in known), max(q.high for *_, q in known), 0.06)
    up = Scale(low, high, height - 48, 10)
    points = [
        Point(t, across(b.mean), up(q.mean), across(b.low), across(b.high), up(q.high), up(q.low)) for t, b, q in known
    ]
    return Plane(width, height, Axis.of(across), Axis.of(up), points)


@dataclass(frozen=True)
class Bar:
    """``count`` images between two values."""

    x: float
    y: float
    width: float
    height: float
    count: int
    low: float
    high: float


@dataclass(frozen=True)
class Facet:
    """One tier's histogram: bars on ``base``, and where the mean is."""

    tier: Tier
    mean: float
    mean_x: float
    top: float
    base: float
    bars: list[Bar]


@dataclass(frozen=True)
class Facets:
    """Histograms of all tiers, one below the other over one axis."""

    width: int
    height: int
    across: Axis
    facets: list[Facet]


_LEFT, _RIGHT, _TALL, _GAP, _FOOT = 46, 96, 38, 10, 44


def facets(
    histogram: Histogram | None, spreads: Sequence[tuple[Tier, Spread]], *, ratios: bool, width: int = 460
) -> Facets | None:
    """``spreads`` are the tiers that were counted, with the quantity's means."""
    if histogram is None:
        return None
    edges = histogram.edges
    across = Scale(edges[0], edges[-1], _LEFT, width - _RIGHT, ratios=ratios)
    most = max(max(counts) for counts in histogram.counts.values())
    drawn = []
    for row, (tier, spread) in enumerate(spreads):
        base = (row + 1) * (_TALL + _GAP)
        places = [across(e) for e in edges]
        bars = [
            Bar(
                x=places[i],
                y=round(base - _TALL * count / most, 2),
                width=round(max(places[i + 1] - places[i] - 0.8, 1.0), 2),
                height=round(_TALL * count / most, 2),
                count=count,
                low=edges[i],
                high=edges[i + 1],
            )
            for i, count in enumerate(histogram.counts[tier.tier])
            if count
        ]
        drawn.append(Facet(tier, spread.mean, across(spread.mean), base - _TALL, base, bars))
    return Facets(width, len(drawn) * (_TALL + _GAP) + _FOOT, Axis.of(across), drawn)


def rate_facets(found: Figures) -> Facets | None:
    """Bits a pixel up to each tier."""
    return facets(found.rates, [(t, t.bpp) for t in found.tiers], ratios=True)


def quality_facets(found: Figures) -> Facets | None:
    """PSNR of each tier."""
    return facets(found.qualities, [(t, t.psnr) for t in found.tiers if t.psnr is not None], ratios=False)
