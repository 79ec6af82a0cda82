"""`psc bench seams`: the same photographs in canvases and in one piece; what the cuts cost, and whether they show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click
import numpy as np

from jobs.console import json_option, out_json, table
from jobs.progress import bar

CANVAS = 128
WIDEST_WINDOW = 64


def bench_seams(
    images: str,
    out: str,
    *,
    prior: str = "photo",
    canvas: int = CANVAS,
    tiers: Sequence[int] = (0, 2, 4),
    overrides: dict[str, Any] | None = None,
    **photographs: Any,
) -> dict[str, Any]:
    """Encode each photograph in canvases of ``canvas`` pixels and in one of its whole size; decode some tiers of both.

    A row a tier, over all photographs. ``seam``: gradient across the borders of the canvases over that elsewhere;
    ``seam_whole``: the same places of what was coded in one piece, where there is no border, and ``seam_photo``: of the
    photographs. ``visible_percent``: how much the first is above the second. ``windows``, ``windows_photo``: gradient
    across the borders of all windows over that elsewhere, of what was coded in one piece and of the photographs.

    Args:
        photographs: size, crop, limit, every; see :class:`jobs.bench.photographs.Photographs`.

    Raises:
        click.UsageError: no photographs, none larger than a canvas, or a prior that takes no larger canvas.
        PscError: an unknown prior, a wrong field.
    """
    import psc_core
    from jobs.bench.photographs import Photographs

    if taken := {"canvas", "tiers"} & set(overrides or {}):
        raise click.UsageError(f"--set {', '.join(sorted(taken))}: give --canvas and --tier instead")
    chosen = Photographs(images, **photographs)
    items = chosen.items()
    denoiser, given = psc_core.load_prior(prior), dict(overrides or {}) | {"tiers": max(tiers) + 1}
    request = {"prior": prior, "canvas": canvas, "overrides": overrides or {}, "photographs": chosen.text()}
    measured: list[list[dict[str, float]]] = []
    report: dict[str, Any] = {}
    with bar("image", len(items)) as shown:
        for item in items:
            image = chosen.load(item)
            if max(image.shape[:2]) > canvas:
                measured.append(_measure(denoiser, given, image, canvas, tiers))
                report = {"request": request, "images": len(measured), "tiers": _mean(measured, tiers)}
                Path(out).parent.mkdir(parents=True, exist_ok=True)
                Path(out).write_text(json.dumps(report, indent=1) + "\n")
            shown.update(1)
    if not measured:
        raise click.UsageError(f"--images {images}: none is larger than a canvas of {canvas} pixels")
    return report


@click.command()
@click.option("--images", required=True, metavar="SRC", help="Photographs: whatever psc compress takes.")
@click.option("--prior", default="photo", show_default=True, metavar="PRIOR")
@click.option("--canvas", type=click.IntRange(16), default=CANVAS, show_default=True, help="Largest side of a canvas.")
@click.option("--tier", "tiers", type=click.IntRange(0), multiple=True, default=(0, 2, 4), show_default=True)
@click.option("--set", "fields", multiple=True, metavar="FIELD=V", help="Change a field of the profile archive.")
@click.option("--size", type=click.IntRange(1), metavar="N", help="Reduce to N pixels on the longer side.")
@click.option("--crop", type=click.IntRange(1), metavar="N", help="Then cut out the N x N centre.")
@click.option("--every", type=click.IntRange(1), default=1, metavar="K", help="Only every K-th image.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Of those, only the first N.")
@click.option("--out", default="results/seams.json", show_default=True)
@json_option
def command(out: str, as_json: bool, fields: tuple[str, ...], **options: Any) -> None:
    """Whether the borders of canvases show, and what cutting costs.

    The same photographs coded in canvases and in one piece: gradients at the same places and at the borders of windows,
    bytes and PSNR.

    \b
    Example: psc bench seams --images photos/ --crop 256 --canvas 128
    """
    from jobs.bench.our_codecs import assignment

    overrides = dict(assignment(field, f"--set {field}") for field in fields)
    report = bench_seams(out=out, overrides=overrides, **options)
    short = [{k: float(f"{v:.4g}") for k, v in row.items()} for row in report["tiers"]]
    click.echo(table(short))
    click.echo(f"wrote {out}")
    if as_json:
        out_json(report)


def _measure(
    prior: Any, given: dict[str, Any], image: np.ndarray, canvas: int, tiers: Sequence[int]
) -> list[dict[str, float]]:
    """One photograph: a row a tier."""
    import psc_core
    from jobs.bench.seams import gradients
    from psc_core.metrics import psnr
    from psc_core.profiles import ArchiveProfile

    whole = -(-max(image.shape[:2]) // WIDEST_WINDOW) * WIDEST_WINDOW
    cut, one = (
        psc_core.encode(image, prior, psc_core.get_profile("archive", **given, canvas=side)) for side in (canvas, whole)
    )
    if one.canvases > 1:
        raise click.UsageError(
            f"prior {prior.name}: an image of {whole} pixels is cut whatever the canvas; give a smaller --crop"
        )
    window, rows = cast(ArchiveProfile, one.shared.profile).window, []
    photo = {"seam_photo": gradients(image, canvas), "windows_photo": gradients(image, window)}
    for tier in tiers:
        in_canvases, in_one = (psc_core.decode(stream, prior, tier=tier) for stream in (cut, one))
        seen = {"seam": gradients(in_canvases, canvas), "seam_whole": gradients(in_one, canvas)} | photo
        seen["windows"] = gradients(in_one, window)
        row = {f"{where}_{name}": value for name, found in seen.items() for where, value in found._asdict().items()}
        for name, stream, decoded in (("cut", cut, in_canvases), ("whole", one, in_one)):
            row |= {f"bpp_{name}": stream.truncate(tier=tier).bpp, f"psnr_{name}": psnr(image, decoded)}
        rows.append(row)
    return rows


def _mean(measured: Sequence[Sequence[dict[str, float]]], tiers: Sequence[int]) -> list[dict[str, float]]:
    """Of all photographs, gradients before their ratios."""
    out = []
    for number, tier in enumerate(tiers):
        rows = [rows[number] for rows in measured]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        names = ("seam", "seam_whole", "seam_photo", "windows", "windows_photo")
        seams = {name: _ratio(mean[f"across_{name}"], mean[f"elsewhere_{name}"]) for name in names}
        visible = {"visible_percent": 100 * (_ratio(seams["seam"], seams["seam_whole"]) - 1)}
        rates = {key: mean[key] for key in ("bpp_cut", "bpp_whole", "psnr_cut", "psnr_whole")}
        out.append({"tier": float(tier)} | seams | visible | rates)
    return out


def _ratio(a: float, b: float) -> float:
    """Of gradients; 1 where a flat picture has none."""
    return a / b if b else 1.0
