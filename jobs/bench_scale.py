"""`psc bench scale`: seconds, memory and seams over image sizes, up to many canvases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from jobs.console import json_option, out_json, table
from jobs.progress import bar

SIZES = ("256x256", "1024x768", "2048x1536", "4000x3000")


def bench_scale(
    out: str,
    *,
    prior: str = "photo",
    profile: str = "archive",
    overrides: dict[str, Any] | None = None,
    sizes: Sequence[str] = SIZES,
) -> dict[str, Any]:
    """Encode and decode one photograph, mirrored out to each size (WIDTHxHEIGHT); writes ``out`` after each.

    Seconds are of one process on all the threads that torch was given; memory is the process's peak during the call,
    libraries and weights (of the smallest size alone some 500 MB) included. ``seam``: see
    :func:`jobs.bench.seams.seam_ratio`; ``seam_photo``: the photograph's own.

    Raises:
        click.UsageError: a malformed size. PscError: an unknown prior or profile, a wrong field.
    """
    import psc_core

    pixels = [_size(text) for text in sizes]
    denoiser = psc_core.load_prior(prior)
    chosen = psc_core.get_profile(profile, **(overrides or {}))
    request = {"prior": prior, "profile": profile, "overrides": overrides or {}}
    results: list[dict[str, Any]] = []
    with bar("size") as shown:
        shown.total = len(pixels)
        for width, height in pixels:
            results.append(_measure(denoiser, chosen, width, height))
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            Path(out).write_text(json.dumps({"request": request, "results": results}, indent=1) + "\n")
            shown.update(1)
    return {"request": request, "results": results}


@click.command()
@click.option("--prior", default="photo", show_default=True, metavar="PRIOR")
@click.option("--profile", default="archive", show_default=True)
@click.option("--set", "fields", multiple=True, metavar="FIELD=V", help="Change a field of the profile.")
@click.option("--size", "sizes", multiple=True, default=SIZES, show_default=True, metavar="WxH", help="May repeat.")
@click.option("--out", default="results/scale.json", show_default=True)
@json_option
def command(out: str, as_json: bool, fields: tuple[str, ...], **options: Any) -> None:
    """What images of several sizes cost, and whether the borders of their canvases show.

    Seconds and memory to encode and to decode one photograph mirrored out to each size.

    \b
    Example: psc bench scale --size 512x512 --size 1024x1024 --set tiers=1
    """
    from jobs.bench.our_codecs import assignment

    overrides = dict(assignment(field, f"--set {field}") for field in fields)
    report = bench_scale(out, overrides=overrides, **options)
    short = [{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in r.items()} for r in report["results"]]
    click.echo(table(short))
    click.echo(f"wrote {out}")
    if as_json:
        out_json(report)


def photograph(width: int, height: int) -> np.ndarray:
    """scikit-image's coffee (600 x 400), mirrored at its borders as often as it takes: uint8 (H, W, 3)."""
    import skimage.data

    from psc_core.canvas import reflected

    image = skimage.data.coffee()
    return image[reflected(image.shape[0], height)][:, reflected(image.shape[1], width)]


def _measure(prior: Any, profile: Any, width: int, height: int) -> dict[str, Any]:
    import psc_core
    from jobs.bench.meter import Meter
    from jobs.bench.seams import seam_ratio
    from psc_core.metrics import psnr

    image = photograph(width, height)
    calls = prior.nfe
    with Meter() as encoding:
        stream = psc_core.encode(image, prior, profile)
    between = prior.nfe
    with Meter() as decoding:
        decoded = psc_core.decode(stream, prior)
    megapixels, limit = width * height / 1e6, stream.shared.profile.canvas
    return {
        "size": f"{width}x{height}",
        "megapixels": megapixels,
        "canvases": stream.canvases,
        "bpp": stream.bpp,
        "psnr": psnr(image, decoded),
        "nfe_encode": (between - calls) / stream.canvases,
        "nfe_decode": (prior.nfe - between) / stream.canvases,
        "seconds_encode": encoding.seconds,
        "seconds_decode": decoding.seconds,
        "encode_s_per_mp": encoding.seconds / megapixels,
        "decode_s_per_mp": decoding.seconds / megapixels,
        "memory_mb_encode": encoding.memory_mb,
        "memory_mb_decode": decoding.memory_mb,
        "seam": seam_ratio(decoded, limit),
        "seam_photo": seam_ratio(image, limit),
    }


def _size(text: str) -> tuple[int, int]:
    width, sign, height = text.partition("x")
    if not (sign and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.UsageError(f"--size {text}: expected WIDTHxHEIGHT, such as 1024x768")
    return int(width), int(height)
