"""`psc train-prior`: train a denoiser on photographs and write it as a prior folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


@click.command("train-prior")
@click.argument("photographs", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), help="Checkpoints; resumed from [OUTPUT.work].")
@click.option("--start", type=click.Path(exists=True, path_type=Path), help="Prior to start or grow from.")
@click.option("--config", type=click.Path(exists=True, path_type=Path), help="config.json of the UNet2DModel.")
@click.option("--iterations", type=int, default=0, help="Length of the run in steps.")
@click.option("--seconds", type=float, default=0.0, help="Length of the run in seconds of training, instead.")
@click.option("--batch", type=int, default=32, show_default=True)
@click.option("--crop", type=int, default=64, show_default=True, help="Side of the training windows in pixels.")
@click.option("--learning-rate", type=float, default=5e-4, show_default=True)
@click.option("--ema", type=float, default=0.999, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--name", default="photo", show_default=True, help="Name written into prior.json.")
@click.option(
    "--data-note",
    type=click.Path(exists=True, path_type=Path),
    help="Markdown for the model card: where the photographs are from, and their licences.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--compile/--no-compile", "compiled", default=None, help="torch.compile [on cuda only].")
@click.option("--threads", type=int, default=0, help="CPU threads [torch's own].")
@click.option("--json", "as_json", is_flag=True, help="Last line on stdout: one JSON object.")
def command(photographs: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Train a prior on PHOTOGRAPHS (a tar or a folder) and write it to the folder OUTPUT.

    A second call with the same --work goes on where the first one stopped.

    \b
    Example: psc train-prior photos/ my-prior/ --name mine --seconds 3600
    """
    try:
        result = train_prior(photographs, output, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(
        json.dumps(result)
        if as_json
        else f"{output}: {result['parameters']:,} parameters, "
        f"{result['gflop_per_64x64']} GFLOP a 64x64 sample, PSNR {result['psnr']}"
    )


def train_prior(
    photographs: Path,
    output: Path,
    *,
    work: Path | None = None,
    start: Path | None = None,
    config: Path | None = None,
    name: str = "photo",
    data_note: Path | None = None,
    device: str = "auto",
    compiled: bool | None = None,
    threads: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Train and write a prior; returns its facts and validation curve (dB by σ).

    `settings` are the fields of `jobs.training.run.Settings`. Raises ValueError on bad input.
    """
    import torch

    from jobs.training import run as training
    from jobs.training.data import load_photographs
    from jobs.training.folder import gflop_per_64x64, write_prior

    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = training.Settings(**settings)
    torch.manual_seed(chosen.seed)
    photos = load_photographs(photographs, min_side=max(chosen.crop, chosen.validation_crop))
    compiled = device == "cuda" if compiled is None else compiled
    trainer = training.Trainer(_network(start, config), chosen, device=device, compiled=compiled)
    training.run(
        trainer,
        photos,
        work or output.with_name(output.name + ".work"),
        report=lambda line: click.echo(line, err=True),
    )
    curve = {str(sigma): round(psnr, 3) for sigma, psnr in trainer.validate(photos).items()}
    recipe = {
        "data": photographs.name,
        "photographs": len(photos.train),
        "start": start.name if start else None,
        **asdict(chosen),
        "iterations": trainer.step,
        "seconds": round(trainer.elapsed),
        "optimizer": "AdamW, linear warm-up, half cosine to zero",
        "sigma": "ln s ~ N(-0.9, 1.5^2)",
        "history": trainer.history,
    }
    note = data_note.read_text() if data_note else ""
    write_prior(trainer.ema, output, name=name, training=recipe, psnr={"held_out": curve}, data_note=note)
    return {
        "output": str(output),
        "psnr": curve,
        "steps": trainer.step,
        "parameters": sum(p.numel() for p in trainer.ema.parameters()),
        "gflop_per_64x64": round(gflop_per_64x64(trainer.ema), 2),
    }


def _network(start: Path | None, config: Path | None) -> Any:
    from diffusers.models.unets.unet_2d import UNet2DModel

    from jobs.training.growth import grow

    if start is None and config is None:
        raise ValueError("nothing to train: give --config, --start or both")
    fresh = UNet2DModel.from_config(json.loads(config.read_text())) if config else None
    if start is None:
        return fresh
    source = UNet2DModel.from_pretrained(start).float()
    return source if fresh is None else grow(source, fresh)
