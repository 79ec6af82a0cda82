"""`psc demo`: the whole job on scikit-image's photographs, ending in a contact sheet."""

from __future__ import annotations

import json
import shutil
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from jobs.console import json_option, out_json, table
from jobs.progress import bar, tally_bar

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera")
"""Those that scikit-image carries in its own package: nothing is downloaded."""
SIDE = 128


def demo(
    out: str = "demo-output", *, size: int = SIDE, profile: str = "archive", workers: int | None = None
) -> dict[str, Any]:
    """Write photographs into ``out``, compress, truncate, decode every tier, draw ``out``/contact-sheet.png.

    Tier 1 is decoded from the truncated dataset, which needs nothing of what was cut away.

    Args:
        size: longest side in pixels to which the photographs are reduced first.

    Returns:
        One row an image and tier: id, tier, bytes, bpp, psnr (dB); and seconds a verb.
    """
    from jobs.compress import compress
    from jobs.decompress import decompress
    from jobs.truncate import truncate

    folder = _fresh(Path(out))
    sources = _photographs(folder / "photographs", size)
    seconds: dict[str, float] = {}
    with _timed(seconds, "compress"), tally_bar() as follow:
        compress(
            str(folder / "photographs"), str(folder / "dataset"), profile=profile, workers=workers, progress=follow
        )
    with _timed(seconds, "truncate"):
        truncate(str(folder / "dataset"), str(folder / "dataset-tier-1"), tier=1)
    with _timed(seconds, "decompress"):
        decompress(str(folder / "dataset-tier-1"), str(folder / "tier-1"))
    with _timed(seconds, "replay"):
        _replay(folder)
    pictures = _pictures(folder)
    rows = _measure(sources, pictures, folder / "dataset")
    _sheet(sources, pictures, rows, profile).save(folder / "contact-sheet.png")
    figures = {"images": len(sources), "rows": rows, "seconds": seconds, "sheet": str(folder / "contact-sheet.png")}
    (folder / "demo.json").write_text(json.dumps(figures, indent=1))
    return figures


@click.command()
@click.argument("out", default="demo-output")
@click.option("--size", type=int, default=SIDE, show_default=True, metavar="N", help="Longest side of the photographs.")
@click.option("--profile", default="archive", show_default=True, help="archive, paper, diffc or paper-latent.")
@click.option("--workers", type=int, metavar="N", help="Ray actors.")
@json_option
def command(out: str, as_json: bool, **options) -> None:
    """Compress scikit-image's photographs into OUT, truncate, decode every tier, and draw a contact sheet.

    The photographs are reduced to 128 pixels so that a laptop's two cores finish in a minute or two. The published
    profile costs about 4 network calls a bit: with --profile paper, also give --size 64 and patience.

    \b
    Example: psc demo demo-output
    """
    figures = demo(out, **options)
    click.echo(table(figures["rows"]))
    click.echo("\n" + ", ".join(f"{verb} {s:.1f} s" for verb, s in figures["seconds"].items()))
    click.echo(f"Now open {figures['sheet']}")
    if as_json:
        out_json(figures)


class _timed:
    """Adds the seconds of a block to a table."""

    def __init__(self, table_: dict[str, float], name: str) -> None:
        self.table, self.name = table_, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.table[self.name] = round(time.perf_counter() - self.start, 2)


def _fresh(folder: Path) -> Path:
    """An earlier demo's folder is replaced; anybody else's is refused."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "photographs").is_dir():
            raise click.UsageError(f"{folder} exists and is not a demo's: give another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _photographs(folder: Path, size: int) -> dict[str, np.ndarray]:
    try:
        data = import_module("skimage.data")
    except ImportError:
        raise click.UsageError('the demo needs scikit-image: pip install "psc-archive[demo]"') from None
    folder.mkdir()
    out = {}
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(data, name)())
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        image.save(folder / f"{name}.png")
        out[f"{name}.png"] = _pixels(folder / f"{name}.png")
    return out


def _replay(folder: Path) -> None:
    """Every other tier's pictures, each stream replayed once: what ``decompress`` gives at that tier."""
    import psc_core
    from pipeline.codec import Codec
    from pipeline.dataset.reader import Dataset
    from pipeline.outputs.pictures import picture
    from pipeline.request import Request

    opened = Dataset.open(str(folder / "dataset"))
    prior = Codec().load(Request.of_streams(opened.shared, loaded_from=opened.plan.prior))
    with bar("picture") as shown:
        shown.total = len(PHOTOGRAPHS) * (opened.tiers - 1)
        for name, stream in opened.streams():
            if isinstance(stream, Exception):
                raise stream
            for replayed in psc_core.replay(stream, prior):
                if replayed.tier == 1:
                    continue
                tier = folder / f"tier-{replayed.tier}"
                tier.mkdir(exist_ok=True)
                (tier / name).write_bytes(picture(replayed.restore()))
                shown.update(1)


def _pictures(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """By tier and image, (H, W, C)."""
    tiers = sorted(int(path.name.removeprefix("tier-")) for path in folder.glob("tier-*"))
    return {
        tier: {f"{name}.png": _pixels(folder / f"tier-{tier}" / f"{name}.png") for name in PHOTOGRAPHS}
        for tier in tiers
    }


def _pixels(path: Path) -> np.ndarray:
    array = np.asarray(Image.open(path))
    return array[:, :, None] if array.ndim == 2 else array


def _measure(
    sources: dict[str, np.ndarray], pictures: dict[int, dict[str, np.ndarray]], dataset: Path
) -> list[dict[str, Any]]:
    from jobs.query import query

    rates = query(
        str(dataset), "select image_id, tier, bytes_up_to, bpp from tiers order by image_id, tier"
    ).to_pylist()
    rows = []
    for rate in rates:
        name, tier = rate["image_id"], rate["tier"]
        error = np.mean((pictures[tier][name].astype(np.float64) - sources[name]) ** 2)
        psnr = round(float(10 * np.log10(255**2 / error)), 2)
        rows.append(
            {"image": name, "tier": tier, "bytes": rate["bytes_up_to"], "bpp": round(rate["bpp"], 4), "psnr": psnr}
        )
    return rows


def _sheet(
    sources: dict[str, np.ndarray], pictures: dict[int, dict[str, np.ndarray]], rows: list[dict], profile: str
) -> Image.Image:
    from jobs.contact_sheet import Cell, contact_sheet

    found = {(r["image"], r["tier"]): r for r in rows}
    grid = []
    for name, original in sources.items():
        line = [Cell(original, (name.removesuffix(".png"), "original"))]
        for tier, decoded in pictures.items():
            r = found[name, tier]
            line.append(
                Cell(decoded[name], (f"tier {tier}: {r['bpp']:.3f} bpp", f"{r['psnr']:.1f} dB, {r['bytes']} bytes"))
            )
        grid.append(line)
    return contact_sheet(grid, f"PSC profile {profile}: original, and each tier of one stream")
