"""Draws mean curves: PSNR, SSIM and MS-SSIM over bits a pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.bench.curves import Point

_PANELS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS", "fid": "FID", "kid": "KID"}
_SHOWN_BPP = (0.015, 2.0)
"""The axis ends here even where a codec's best settings lie beyond, unless ours do too."""


def plot(
    curves: Mapping[str, Sequence[Point]],
    path: Path,
    title: str,
    published: Mapping[str, Sequence[Point]] | None = None,
) -> None:
    """Write a PNG, one panel a metric that is defined on these images; ours are thick, published points dotted."""
    from matplotlib.figure import Figure

    panels = [key for key in _PANELS if any(p.get(key) is not None for points in curves.values() for p in points)]
    figure = Figure(figsize=(1 + 5.6 * len(panels), 5.4), layout="constrained")
    for axis, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, (name, points) in enumerate(curves.items()):
            _draw(axis, name, [p for p in points if p.get(key) is not None], key, f"C{number % 10}")
        for number, (name, points) in enumerate((published or {}).items()):
            known = [p for p in points if p.get(key) is not None]
            style = {"ls": ":", "marker": "x", "ms": 5, "color": str(0.1 + 0.15 * (number % 5))}
            if known:
                axis.plot([p["bpp"] for p in known], [p[key] for p in known], label=name, **style)
        axis.set(xscale="log", xlim=_limits(curves), xlabel="bits a pixel, every byte counted", ylabel=_PANELS[key])
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(_every_other)
        axis.tick_params(axis="x", which="minor", labelsize=7)
        axis.grid(alpha=0.3, which="both")
    figure.axes[0].legend(fontsize="small" if published else None)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _draw(axis: Any, name: str, points: Sequence[Point], key: str, colour: str) -> None:
    ours = bool(points) and "nfe_encode" in points[0]
    style = {"lw": 2.6, "marker": "o", "ms": 5} if ours else {"lw": 1.2, "marker": ".", "ms": 4}
    axis.plot([p["bpp"] for p in points], [p[key] for p in points], label=name, color=colour, **style)


def _every_other(rate: float, _: int) -> str:
    """Labels 2, 3 and 5 of each decade: all nine would overlap."""
    leading = rate / 10 ** math.floor(math.log10(rate) + 1e-9)
    return f"{rate:g}" if round(leading) in (2, 3, 5) else ""


def _limits(curves: Mapping[str, Sequence[Point]]) -> tuple[float, float]:
    rates = [p["bpp"] for points in curves.values() for p in points]
    ours = [p["bpp"] for points in curves.values() for p in points if "nfe_encode" in p]
    low = max(min(rates), min([_SHOWN_BPP[0], *ours]))
    return low * 0.9, min(max(rates), max([_SHOWN_BPP[1], *ours])) * 1.1
