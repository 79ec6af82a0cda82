"""`psc calibrate-prior`: true squared error against sample variance, and denoising PSNR."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

WINDOW, CENTRE = 64, 128


@click.command("calibrate-prior")
@click.argument("photographs", type=click.Path(exists=True, path_type=Path))
@click.argument("priors", nargs=-1, required=True)
@click.option("--every", is_flag=True, help="All photographs (never trained on), not the held-out share.")
@click.option("--images", type=int, default=40, show_default=True, help="Photographs for the PSNR.")
@click.option("--windows", type=int, default=50, show_default=True, help="Random 64x64 windows.")
@click.option("--rows", type=int, multiple=True, default=(24, 96, 384), show_default=True, help="Rates.")
@click.option("--samples", type=int, default=8, show_default=True)
@click.option("--steps", type=int, default=12, show_default=True)
@click.option("--arithmetic", type=click.Choice(["float", "exact"]), default="float", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(photographs: Path, priors: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Report how well the samples of PRIORS (names or folders) know their own error on PHOTOGRAPHS.

    PHOTOGRAPHS is a tar or a folder, of which `psc train-prior` would hold out the same part.

    \b
    Example: psc calibrate-prior photos/ photo my-prior/
    """
    try:
        report = calibrate_prior(photographs, priors, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(report))
        return
    for prior, facts in report.items():
        click.echo(f"{prior}: denoising PSNR {facts['psnr']}")
        for line in facts["calibration"]:
            click.echo(
                f"  {line['rows']:5d} rows: error / variance {line['ratio']:.2f} "
                f"(median {line['median_ratio']:.2f}), mean {line['psnr']:.2f} dB"
            )


def calibrate_prior(
    photographs: Path,
    priors: Sequence[str],
    *,
    windows: int = 50,
    rows: Sequence[int] = (24, 96, 384),
    samples: int = 8,
    steps: int = 12,
    arithmetic: str = "float",
    every: bool = False,
    images: int = 40,
) -> dict[str, Any]:
    """Calibration at each number of rows and the denoising PSNR on 128x128 centre crops, by prior.

    `every` takes all photographs, not only the held-out share. Raises ValueError if none is usable.
    """
    import torch

    from jobs.training.calibration import calibration
    from jobs.training.data import centre_crops, load_photographs, random_windows, read_photographs
    from jobs.training.evaluate import denoising_psnr
    from psc_core import load_prior

    if every:
        photos = [pixels for _, pixels in read_photographs(photographs, min_side=CENTRE)]
    else:
        photos = load_photographs(photographs, min_side=CENTRE).validation
    x = torch.from_numpy(random_windows(photos, count=windows, crop=WINDOW, seed=0))
    crops = torch.from_numpy(centre_crops(photos, crop=CENTRE, count=images))
    report = {}
    for name in priors:
        prior = load_prior(name, arithmetic=arithmetic, device="cpu")
        report[name] = {
            "fingerprint": prior.fingerprint,
            "images": len(crops),
            "psnr": {str(sigma): round(value, 3) for sigma, value in denoising_psnr(prior.denoise, crops).items()},
            "calibration": [calibration(prior, x, rows=r, samples=samples, steps=steps) for r in rows],
        }
    return report
