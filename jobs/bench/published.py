"""Points that others published, drawn beside the measured ones from a file that says where they are from.

    {"curves": {"ELIC": {"images": "Kodak, whole", "citation": "He et al., CVPR 2022, …", "url": "https://…",
                         "points": [{"bpp": 0.1235, "psnr": 29.113}, …]}}}

They are drawn and kept in the record, and enter no BD-rate: their images, crops and byte counts are others'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

MEASURES = ("bpp", "psnr", "ssim", "ms_ssim", "lpips", "fid", "kid")
_NEEDED = ("images", "citation", "points")


def read(path: str) -> dict[str, dict[str, Any]]:
    """Curves by name, each with images, citation and points. Raises click.UsageError for a file that cites nothing."""
    try:
        curves = json.loads(Path(path).read_text())["curves"]
        for name, curve in curves.items():
            _check(path, name, curve)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise click.UsageError(f"--published {path}: not a file of published points ({error!r})") from None
    return curves


def _check(path: str, name: str, curve: dict[str, Any]) -> None:
    if missing := [key for key in _NEEDED if not curve.get(key)]:
        raise click.UsageError(f"--published {path}: {name} lacks {', '.join(missing)}")
    for point in curve["points"]:
        known = all(key in MEASURES and isinstance(value, int | float) for key, value in point.items())
        if not known or "bpp" not in point or len(point) < 2:
            raise click.UsageError(f"--published {path}: {name} has the point {point}; expected bpp and some of "
                                   f"{', '.join(MEASURES[1:])}, as numbers")  # fmt: skip


def drawn(curves: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Their points by the name that the plot gives them."""
    return {
        f"{name} (published, {curve['images']})": sorted(curve["points"], key=lambda p: p["bpp"])
        for name, curve in curves.items()
    }
