"""What a dataset looks like in figures: means, spreads, histograms, failures by kind.

All of it is DuckDB aggregates over narrow columns, so memory does not grow with the number of images (beyond
``EXACT_ROWS``, where quantiles become approximate), and no payload is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.dataset.catalog import connected
from pipeline.dataset.reader import Dataset
from pipeline.dataset.results import Tally

EXACT_ROWS = 5_000_000
"""Rows of the view ``tiers`` up to which quantiles are exact."""
EXAMPLES = 5
_SHARES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Spread:
    """Of one quantity over images: mean, first and last decile, median, extremes."""

    count: int
    mean: float
    low: float
    median: float
    high: float
    least: float
    most: float


@dataclass(frozen=True)
class Tier:
    """One tier over all images that have it: bpp up to it, quality in dB and as SSIM (None: not measured)."""

    tier: int
    images: int
    bytes: int
    bpp: Spread
    psnr: Spread | None
    ssim: Spread | None
    lossless: int
    """Images whose PSNR is infinite; they are in no figure of ``psnr``."""


@dataclass(frozen=True)
class Histogram:
    """Counts of images between ascending ``edges``, a list a tier."""

    edges: list[float]
    counts: dict[int, list[int]]


@dataclass(frozen=True)
class Failure:
    """Inputs that failed in one way, with a few of them: image_id, error and attempts."""

    code: str
    count: int
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class Figures:
    """A dataset's figures; rates and qualities are means over images, ``tally`` has sums."""

    tally: Tally
    source_bytes: int
    """Of the inputs that have a stream."""
    tiers: list[Tier]
    rates: Histogram | None
    """Bits a pixel up to each tier; edges are equal ratios."""
    qualities: Histogram | None
    """PSNR of each tier, dB."""
    failures: list[Failure]


def figures(opened: Dataset) -> Figures:
    """Measure a dataset, as far as it is committed."""
    tally = opened.tally()
    with connected(opened) as sql:
        (source_bytes,) = sql.execute("select sum(source_bytes) from images where status = 'ok'").fetchone()
        tiers = _tiers(sql, exact=tally.rows * opened.tiers <= EXACT_ROWS)
        bpps = [t.bpp for t in tiers if t.images]
        psnrs = [t.psnr for t in tiers if t.psnr is not None]
        return Figures(
            tally=tally,
            source_bytes=int(source_bytes or 0),
            tiers=tiers,
            rates=_histogram(sql, "ln(bpp)", bpps, ratios=True),
            qualities=_histogram(sql, "psnr", psnrs, ratios=False),
            failures=_failures(sql, tally),
        )


def _tiers(sql: Any, *, exact: bool) -> list[Tier]:
    quantile = "quantile_cont" if exact else "approx_quantile"

    def spread(name: str) -> str:
        there = f"filter (isfinite({name}))"
        shares = ", ".join(f"{quantile}({name}, {share}) {there}" for share in _SHARES)
        return f"count({name}) {there}, avg({name}) {there}, {shares}, min({name}) {there}, max({name}) {there}"

    columns = f"{spread('bpp')}, {spread('psnr')}, {spread('ssim')}"
    found = sql.execute(
        f"select tier, count(*), sum(bytes)::bigint, count(*) filter (isinf(psnr)), {columns} "
        "from tiers group by tier order by tier"
    ).fetchall()
    return [_tier(*row[:4], *(row[4 + 7 * i : 11 + 7 * i] for i in range(3))) for row in found]


def _tier(tier: int, images: int, size: int, lossless: int, bpp: tuple, psnr: tuple, ssim: tuple) -> Tier:
    return Tier(
        tier=tier,
        images=images,
        bytes=size,
        bpp=Spread(*bpp),
        psnr=Spread(*psnr) if psnr[0] else None,
        ssim=Spread(*ssim) if ssim[0] else None,
        lossless=lossless,
    )


def _histogram(sql: Any, value: str, spreads: list[Spread], *, ratios: bool) -> Histogram | None:
    """Counts over the range of all spreads; ``value`` is an expression over the view ``tiers``, already a logarithm
    for ``ratios``.
    """
    if not spreads:
        return None
    scale = math.log if ratios else float
    low, high = scale(min(s.least for s in spreads)), scale(max(s.most for s in spreads))
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    bins = min(48, max(16, round(4 * max(s.count for s in spreads) ** (1 / 3))))
    width = (high - low) / bins
    found = sql.execute(
        f"select tier, least(greatest(floor(({value} - ?) / ?), 0), {bins - 1})::integer as bin, count(*) "
        f"from tiers where isfinite({value}) group by all",
        [low, width],
    ).fetchall()
    counts: dict[int, list[int]] = {}
    for tier, place, count in sorted(found):
        counts.setdefault(tier, [0] * bins)[place] = count
    edges = [low + i * width for i in range(bins + 1)]
    return Histogram([math.exp(e) for e in edges] if ratios else edges, counts)


def _failures(sql: Any, tally: Tally) -> list[Failure]:
    """By count, most first; the examples are the first by id."""
    if not tally.failed:
        return []
    found = sql.execute(
        f"select status, list({{'image_id': image_id, 'error': error, 'attempts': attempts}} order by image_id) "
        f"from (from failures qualify row_number() over (partition by status order by image_id) <= {EXAMPLES}) "
        "group by status"
    ).fetchall()
    examples = dict(found)
    ranked = sorted(tally.failed.items(), key=lambda pair: (-pair[1], pair[0]))
    return [Failure(code, count, examples.get(code, [])) for code, count in ranked]
