"""The benchmark's figures on disk: a checkpoint that grows by a line a measurement, and the record made of it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.bench.curves import Curve, Point, compare, mean_curve

_DIGITS = {"psnr": 4, "ssim": 5, "ms_ssim": 5, "lpips": 5, "bpp": 5, "kid": 6}


class Checkpoint:
    """Measurements by key. Every one is on disk before the next begins; a half-written last line is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                    self.found[entry["key"]] = entry
                except (ValueError, KeyError, TypeError):
                    continue

    def add(self, key: str, points: list[Point], code: str) -> None:
        """Keep the points of one image and codec."""
        entry = {"key": key, "code": code, "points": [_rounded(p) for p in points]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"\n", b"")
        with self.path.open("a") as file:
            file.write(("" if whole else "\n") + json.dumps(entry) + "\n")
        self.found[key] = entry


def _rounded(point: Point) -> Point:
    return {k: round(v, _DIGITS.get(k, 4)) if isinstance(v, float) and k != "setting" else v for k, v in point.items()}


def summary(
    curves: Mapping[str, Curve],
    between: tuple[float, float],
    sets: Mapping[str, Mapping[Any, Point]] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """The record: ``facts``, mean curves, BD-rates between any two, and every image's own points, column by column.

    sets: measures of all images together, by curve and setting.
    """
    rates = bd_rates(curves, between)
    return facts | {
        "mean": {
            name: [_rounded(p | (sets or {}).get(name, {}).get(p["setting"], {})) for p in mean_curve(curve)]
            for name, curve in curves.items()
        },
        "bd_rate": rates,
        "bd_rate_percent": square(rates, "percent"),
        "per_image": [
            {"curve": name, "image": image, "points": _columns(points)}
            for name, curve in curves.items()
            for image, points in curve.items()
        ],
    }


def bd_rates(curves: Mapping[str, Curve], between: tuple[float, float]) -> list[dict[str, Any]]:
    """BD-rate of every curve against every other, over all that they share and where the anchor is ``between``."""
    out = []
    for anchor in curves:
        for test in curves:
            if test == anchor:
                continue
            whole, part = (compare(curves[anchor], curves[test], bpp) for bpp in (None, between))
            line: dict[str, Any] = {"anchor": anchor, "test": test, "percent": None, "percent_between": None}
            if whole is not None:
                line |= {"percent": round(whole.percent, 2), "images": whole.images}
                line["psnr"] = [round(whole.psnr_from, 2), round(whole.psnr_to, 2)]
            if part is not None:
                line |= {"percent_between": round(part.percent, 2), "between_bpp": list(between)}
                line["psnr_between"] = [round(part.psnr_from, 2), round(part.psnr_to, 2)]
            out.append(line)
    return out


def square(rates: Sequence[dict[str, Any]], key: str) -> dict[str, dict[str, float | None]]:
    """anchor -> test -> percent."""
    out: dict[str, dict[str, float | None]] = {}
    for line in rates:
        out.setdefault(line["anchor"], {})[line["test"]] = line[key]
    return out


def write(path: Path, record: Mapping[str, Any]) -> None:
    """JSON, one line a mean point and one an image and curve."""
    lines = []
    for key, value in record.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(_json(row) for row in value)
            lines.append(f' "{key}": [\n  {rows}\n ]')
        elif key == "mean":
            curves = (f"{json.dumps(n)}: [\n   " + ",\n   ".join(map(_json, c)) + "\n  ]" for n, c in value.items())
            lines.append(f' "{key}": {{\n  ' + ",\n  ".join(curves) + "\n }")
        else:
            lines.append(f' "{key}": {_json(value)}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def read_curves(path: Path) -> dict[str, Curve]:
    """Curves of a record that :func:`write` made."""
    curves: dict[str, dict[str, list[Point]]] = {}
    for line in json.loads(path.read_text())["per_image"]:
        curves.setdefault(line["curve"], {})[line["image"]] = _points(line["points"])
    return dict(curves)


def _columns(points: Sequence[Point]) -> dict[str, list[Any]]:
    keys = list(dict.fromkeys(key for point in points for key in point))
    return {key: [point.get(key) for point in points] for key in keys}


def _points(columns: Mapping[str, Sequence[Any]]) -> list[Point]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def machine() -> dict[str, Any]:
    """Where seconds were measured."""
    facts: dict[str, Any] = {"processor": _processor(), "cpus": os.cpu_count(), "python": platform.python_version()}
    if "torch" in sys.modules:
        import torch

        facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        facts["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
