"""`psc compress`: a source of images into a dataset, through Ray actors."""

from __future__ import annotations

from typing import Any

import click

from jobs.console import beginning, draining, exit_with, json_option, options_of, out_json, summary, workers_options
from jobs.progress import tally_bar
from jobs.words import counted
from pipeline.dataset.results import Result
from pipeline.inputs.images import MAX_PIXELS
from pipeline.request import DEFAULT_PRIOR, DEFAULT_PROFILE, Request


def compress(
    src: str,
    dataset: str,
    *,
    profile: str | None = None,
    prior: str | None = None,
    tiers: int | None = None,
    max_bpp: float | None = None,
    target_psnr: float | None = None,
    size: int | None = None,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    arithmetic: str = "exact",
    captions: str | None = None,
    labels: str | None = None,
    captioner: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    resume: bool = False,
    **options,
) -> Result:
    """Compress the images of ``src`` into ``dataset``; see :func:`pipeline.run.compress` for ``options``."""
    from pipeline import run

    request = request_of(
        profile=profile,
        prior=prior,
        tiers=tiers,
        max_bpp=max_bpp,
        target_psnr=target_psnr,
        size=size,
        max_pixels=max_pixels,
        seed=seed,
        arithmetic=arithmetic,
        captions=captions,
        labels=labels,
        captioner=captioner,
    )
    return run.compress(src, dataset, request, workers=workers, address=address, resume=resume, **options)


def request_of(
    *, profile: str | None = None, prior: str | None = None, tiers: int | None = None, **options: Any
) -> Request:
    """The request that the options of `psc compress` and `psc plan` make."""
    return Request(
        profile=profile or DEFAULT_PROFILE,
        overrides={} if tiers is None else {"tiers": tiers},
        prior=prior or DEFAULT_PRIOR,
        **options,
    )


_MAX_PIXELS = f"Cap on an image's pixels.  [default: {MAX_PIXELS}]"
request_options = options_of(
    click.option(
        "--profile", metavar="NAME", help=f"archive, paper, paper-latent, diffc.  [default: {DEFAULT_PROFILE}]"
    ),
    click.option("--prior", metavar="PRIOR", help=f"photo (bundled), or a model's folder.  [default: {DEFAULT_PRIOR}]"),
    click.option("--tiers", type=int, metavar="N", help="How many tiers; the profile's own number by default."),
    click.option("--max-bpp", type=float, metavar="F", help="End each image's stream at this many bits a pixel."),
    click.option("--target-psnr", type=float, metavar="DB", help="End each stream with the tier that reaches this."),
    click.option("--size", type=int, metavar="N", help="First reduce images to at most N pixels a side."),
    click.option("--max-pixels", type=int, metavar="N", default=MAX_PIXELS, help=_MAX_PIXELS),
    click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other bytes."),
    click.option(
        "--arithmetic",
        type=click.Choice(["exact", "float"]),
        default="exact",
        show_default=True,
        help="exact decodes on any machine, float only on the same.",
    ),
    click.option("--captions", metavar="FILE|COLUMN", help="Prompts for a text-conditional prior."),
    click.option("--labels", metavar="FILE|COLUMN", help="Classes for a class-conditional prior."),
    click.option("--captioner", metavar="MODEL", help="Writes the missing prompts: a hub id or a folder."),
)


@click.command()
@click.argument("src")
@click.argument("dataset")
@request_options
@workers_options
@click.option("--resume", is_flag=True, help="Go on with a dataset that was begun.")
@json_option
def command(src: str, dataset: str, as_json: bool, **options) -> None:
    """Compress every image of SRC into DATASET.

    SRC is a folder tree, one file, a glob, an s3:// prefix; .tar, .zip and .parquet files in it are opened.
    Every input gets one row: a stream, or the reason why it has none. Ctrl-C finishes the shards under way.
    FILE: json, csv or parquet of ids and prompts or labels; COLUMN: beside an image in Parquet, or txt, cls in a tar.

    \b
    Example: psc compress photos/ archive/ --size 256 --tiers 4
             psc compress s3://bucket/photos s3://bucket/archive --resume
    """
    with tally_bar() as follow:
        told: dict[str, Any] = {"on_stop": draining, "on_begin": beginning(dataset)}
        result = compress(src, dataset, progress=follow, **told, **options)
    if result.interrupted:
        done, planned = result.tally.shards, result.tally.plan.shards
        click.echo(
            f"stopped: {done} of {counted(planned, 'shard')} committed; the same command with --resume goes on",
            err=True,
        )
    if as_json:
        out_json(result.as_dict())
    else:
        click.echo(summary(result, "compressed"))
    exit_with(result.exit_code)
