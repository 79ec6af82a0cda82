"""`psc report`: a dataset as one HTML page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from jobs.console import json_option, out_json, size_text
from jobs.progress import counting
from jobs.words import counted

IMAGES = 8
_SUFFIXES = (".html", ".htm")


def report(
    dataset: str,
    out: str,
    *,
    source: str | None = None,
    images: int = IMAGES,
    prior: str | None = None,
    codec: Any = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the page ``out``, which needs nothing but itself; the figures that it shows.

    source: where the images are now, to set them beside what is decoded; by default where the dataset says that they
    were. images: how many to decode, at all their tiers; 0 needs no prior. prior: where it is, if not under its own
    name.

    Raises:
        NotADataset, BadRequest, TargetNotWritable, SourceNotFound, PriorNotFound, WrongPrior: nothing was written.
    """
    from jobs.page import render
    from pipeline.dataset.catalog import info
    from pipeline.dataset.figures import figures
    from pipeline.dataset.reader import Dataset
    from pipeline.outputs.gallery import gallery
    from pipeline.sources import Source

    folder, name = _target(out, images)
    opened = Dataset.open(dataset)
    folder.check_writable()
    if source is not None:
        Source(source).check()
    found = figures(opened)
    shown = gallery(opened, images, source=source, prior=prior, codec=codec, progress=progress)
    spent = sum(marker["figures"].get("codec_seconds", 0.0) for marker in opened.markers)
    told = info(dataset) | {"codec_seconds": spent, "version_of_psc": _version()}
    page = render(opened, found, shown, told=told).encode()
    folder.put(name, page)
    return {
        "dataset": dataset,
        "out": out,
        "page_bytes": len(page),
        "pictures": len(shown.shown),
        "originals": sum(not isinstance(one.original, str) for one in shown.shown),
        "nfe": shown.nfe,
        "seconds": round(shown.seconds, 3),
        "images": found.tally.ok,
        "failed": found.tally.failed,
        "tiers": [asdict(tier) for tier in found.tiers],
    }


def _target(out: str, images: int) -> tuple[Any, str]:
    """The folder and the name of the page. Raises BadRequest."""
    from pipeline.errors import BadRequest
    from pipeline.stores.storage import Folder

    parent, _, name = out.rpartition("/")
    # A page replaces the last one of its name; nothing else is to be replaced by a slip of the order.
    if not name.lower().endswith(_SUFFIXES):
        raise BadRequest(f"{out}: give the page a name that ends in .html")
    if images < 0:
        raise BadRequest(f"images {images}: expected a number of at least 0")
    return Folder.at(parent or ("/" if out.startswith("/") else ".")), name


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("psc-archive")
    except PackageNotFoundError:
        return ""


@click.command()
@click.argument("dataset")
@click.argument("out", metavar="OUT.html")
@click.option("--source", metavar="SRC", help="The images that DATASET was made of.  [default: where they were]")
@click.option("--images", type=int, default=IMAGES, show_default=True, help="How many to decode; 0 needs no prior.")
@click.option("--prior", metavar="PRIOR", help="Where the prior is, if not under its own name.")
@json_option
def command(dataset: str, out: str, as_json: bool, **options: Any) -> None:
    """Write a page about DATASET that any browser opens: one file, which fetches nothing.

    It holds a summary, rates and qualities with their spread, what failed and why, and a gallery in which a slider
    goes through the tiers of an image beside its original. Decoding the gallery runs the network: with the profile
    archive 60 to 100 calls a picture, and each image has a picture a tier.

    \b
    Example: psc report archive/ report.html
             psc report s3://bucket/archive report.html --source photos/
             psc report archive/ figures.html --images 0
    """
    with counting("picture") as count:

        def follow(done: int, total: int) -> None:
            if not done:
                click.echo(f"decoding {counted(total, 'picture')} for the gallery (--images 0 does without)", err=True)
            count(done, total)

        found = report(dataset, out, progress=follow, **options)
    if as_json:
        out_json(found)
        return
    gallery = f"{counted(found['pictures'], 'image')} at every tier, {found['originals']} of them beside the original"
    gallery = gallery if found["pictures"] else "no pictures"
    click.echo(f"wrote {out}: {size_text(found['page_bytes'])}, {gallery}")
