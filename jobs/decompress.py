"""`psc decompress`: a dataset, or a .psc file, to pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.console import beginning, draining, exit_with, json_option, on_ray, out_json, read_ids
from jobs.progress import counting
from jobs.words import counted
from psc_core.profiles import RESTORATIONS

if TYPE_CHECKING:
    from pipeline.restore import Restored


def decompress(source: str, out: str, **options) -> Restored:
    """Decode ``source`` into files under ``out``; see :func:`pipeline.restore.decompress` for ``options``."""
    from pipeline import restore

    return restore.decompress(source, out, **options)


@click.command()
@click.argument("source", metavar="DATASET|FILE.psc")
@click.argument("out")
@click.option("--tier", type=int, metavar="K", help="Decode tiers 0 to K only.  [default: all]")
@click.option("--bpp", type=float, metavar="F", help="Decode at most this many bits a pixel of each image.")
@click.option(
    "--restore",
    type=click.Choice(RESTORATIONS),
    default="mean",
    show_default=True,
    help="Low distortion, or natural detail; flow and ancestral: diffc alone.",
)
@click.option("--ids", multiple=True, metavar="ID,…", help="Only these images: ids, or @FILE with one a line.")
@click.option(
    "--format",
    type=click.Choice(["png", "webp", "jpg", "parquet"]),
    default="png",
    show_default=True,
    help="Of the pictures; png and webp are lossless. parquet: files of rows with a PNG each.",
)
@click.option("--prior", metavar="PRIOR", help="Where the prior is, if not under its own name.")
@on_ray(alone="none: in this process")
@click.option("--resume", is_flag=True, help="Go on: pictures that are in OUT are not decoded again.")
@click.option("--overwrite", is_flag=True, help="Replace pictures of an earlier run. Nothing else is ever replaced.")
@json_option
def command(source: str, out: str, ids: tuple[str, ...], as_json: bool, **options) -> None:
    """Decode DATASET, or one FILE.psc, into pictures in the folder OUT.

    A picture is named after its image's id. Decoding needs the prior that encoded. What OUT holds stays as it is:
    a dataset, the compressed images' folder, and other files of the same names are refused.

    \b
    Example: psc decompress archive/ pictures/ --tier 1
             psc decompress archive/ sharp/ --ids a/1.jpg --restore perceptual
             psc decompress one.psc one.png
    """
    with counting("image") as follow:
        chosen = read_ids(ids)
        result = decompress(
            source, out, ids=chosen, progress=follow, on_stop=draining, on_begin=beginning(out), **options
        )
    for failure in result.failed[:10]:
        click.echo(f"{failure['image_id']}: {failure['error']}", err=True)
    if as_json:
        out_json(result.as_dict())
    else:
        kept = f" ({result.kept} more were there)" if result.kept else ""
        click.echo(f"wrote {counted(result.written, 'picture')} to {out} in {result.seconds:.1f} s{kept}")
        if result.failures:
            click.echo(f"{counted(result.failures, 'image')} did not decode")
    exit_with(result.exit_code)
