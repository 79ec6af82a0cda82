"""`psc bench rd`: rate and distortion beside the codecs of today, on the same images, in one run."""

from __future__ import annotations

import hashlib
import json
import math
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from jobs.bench.curves import bd_rate, mean_curve
from jobs.console import bar, json_option, out_json, table
from psc_core import metrics

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}


@dataclass(frozen=True)
class Settings:
    """What decides the figures: part of the checkpoint's name."""

    images: str
    profiles: tuple[str, ...] = ("archive",)
    priors: tuple[str, ...] = ("photo",)
    codecs: tuple[str, ...] = ("jpeg", "jpeg2000", "webp", "avif", "heic")
    arithmetic: str = "exact"
    restore: str = "mean"
    size: int | None = None
    crop: int | None = None
    limit: int | None = None
    every: int = 1
    overrides: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:10]


def bench_rd(settings: Settings, out: str) -> dict[str, Any]:
    """Measure every curve on every image; write ``out``.json and ``out``.png, resuming from ``out``.partial.jsonl."""
    paths = _paths(settings)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = target.with_name(f"{target.name}.{settings.digest}.partial.jsonl")
    done = {(p["curve"], p["image"]): p["points"] for p in _read(checkpoint)}
    curves = [*settings.codecs, *(name for name, _, _ in _ours(settings))]
    with bar("image") as shown, checkpoint.open("a") as log:
        shown.total = len(paths) * len(curves)
        shown.update(len(done))
        for curve, path, points in _measure(settings, paths, set(done)):
            done[curve, path.name] = points
            log.write(json.dumps({"curve": curve, "image": path.name, "points": points}) + "\n")
            log.flush()
            shown.update(1)
    result = _summary(settings, curves, done)
    target.with_name(target.name + ".json").write_text(json.dumps(result, indent=1) + "\n")
    from jobs.bench.plot import plot

    plot(result["mean"], target.with_name(target.name + ".png"), f"{len(paths)} images, {_shape(settings)}")
    checkpoint.unlink()
    return result


@click.command()
@click.option("--images", metavar="DIR", help="Folder of photographs.")
@click.option(
    "--profile", "profiles", multiple=True, metavar="NAME", help="archive, paper; may repeat.  [default: archive]"
)
@click.option("--prior", "priors", multiple=True, metavar="PRIOR", help="May repeat.  [default: photo]")
@click.option("--arithmetic", type=click.Choice(["exact", "float"]), default="exact", show_default=True)
@click.option("--restore", type=click.Choice(["mean", "perceptual"]), default="mean", show_default=True)
@click.option("--codecs", default="jpeg,jpeg2000,webp,avif,heic", show_default=True, help="Of today; empty for none.")
@click.option("--size", type=int, metavar="N", help="Reduce each photograph to N pixels on its longer side.")
@click.option("--crop", type=int, metavar="N", help="Cut the N x N centre (after --size).")
@click.option("--limit", type=int, metavar="N", help="Only the first N.")
@click.option("--every", type=int, default=1, show_default=True, metavar="K", help="Only every K-th.")
@click.option("--set", "overrides", multiple=True, metavar="PROFILE.FIELD=VALUE", help="Change a profile's field.")
@click.option("--out", default="results/rd", show_default=True, help="Writes OUT.json and OUT.png.")
@click.option(
    "--compare", multiple=True, type=click.Path(exists=True), help="Only print BD-rates between stored curves."
)
@json_option
def command(images: str | None, out: str, compare: tuple[str, ...], as_json: bool, codecs: str, **options: Any) -> None:
    """Rate (every byte), PSNR, SSIM, network calls, seconds and memory of each profile beside JPEG and its heirs.

    \b
    Example: psc bench rd --images photographs/ --size 256 --out results/rd-256
             psc bench rd --compare results/rd-256.json
    """
    if compare:
        result: dict[str, Any] = {
            "mean": {f"{Path(f).stem}:{k}" if len(compare) > 1 else k: v for f in compare for k, v in _load(f)}
        }
        result["bd_rate_percent"] = _bd_table(result["mean"])
    elif images is None:
        raise click.UsageError("--images DIR: which photographs?")
    else:
        chosen = {k: v for k, v in options.items() if v not in ((), None)}
        names = tuple(c for c in codecs.split(",") if c)
        result = bench_rd(Settings(images=images, codecs=names, **chosen), out)
    click.echo(_text(result))
    if as_json:
        out_json({k: result[k] for k in ("mean", "bd_rate_percent")})


def _measure(settings: Settings, paths: Sequence[Path], done: set) -> Iterator[tuple[str, Path, list[dict[str, Any]]]]:
    from jobs.bench.reference_codecs import CODECS

    if unknown := set(settings.codecs) - set(CODECS):
        raise click.UsageError(f"--codecs {', '.join(sorted(unknown))}: choose from {', '.join(CODECS)}")
    for codec in settings.codecs:
        for path in paths:
            if (codec, path.name) not in done:
                yield codec, path, _reference_points(codec, _image(path, settings))
    import psc_core

    for name, profile, prior_name in _ours(settings):
        todo = [path for path in paths if (name, path.name) not in done]
        if not todo:
            continue
        prior = psc_core.load_prior(prior_name, arithmetic=settings.arithmetic)
        for path in todo:
            yield name, path, _our_points(_image(path, settings), prior, profile, settings.restore)


def _reference_points(codec: str, image: np.ndarray) -> list[dict[str, Any]]:
    from jobs.bench.reference_codecs import CODECS, decode

    encode, settings = CODECS[codec]
    points = []
    for setting in settings:
        started = time.perf_counter()
        data = encode(Image.fromarray(image), setting)
        encoded = time.perf_counter()
        pixels = decode(data, codec)
        ended = time.perf_counter()
        point = _point(setting, len(data), image, pixels)
        points.append(point | {"seconds_encode": encoded - started, "seconds_decode": ended - encoded})
    return points


def _our_points(image: np.ndarray, prior: Any, profile: Any, restore: str) -> list[dict[str, Any]]:
    import psc_core

    started, calls = time.perf_counter(), prior.nfe
    stream = psc_core.encode(image, prior, profile)
    costs = {"seconds_encode": time.perf_counter() - started, "nfe_encode": prior.nfe - calls}
    points = []
    for tier in range(len(stream.tiers)):
        started, calls = time.perf_counter(), prior.nfe
        pixels = psc_core.decode(stream, prior, tier=tier, restore=restore)
        seconds, nfe = time.perf_counter() - started, prior.nfe - calls
        point = _point(tier, stream.truncate(tier=tier).nbytes, image, pixels)
        points.append(point | costs | {"seconds_decode": seconds, "nfe_decode": nfe, "peak_memory_mb": _peak_memory()})
    return points


def _point(setting: float, count: int, image: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
    return {
        "setting": setting,
        "bytes": count,
        "bpp": 8 * count / (image.shape[0] * image.shape[1]),
        **{k: math.nan if v is None else v for k, v in metrics.distortion(image, pixels)._asdict().items()},
    }


def _peak_memory() -> float:
    """Of this process so far, in MB; of the device where the prior is on one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _ours(settings: Settings) -> list[tuple[str, Any, str]]:
    """(curve's name, profile, prior's name) of every profile with every prior."""
    import psc_core

    out = []
    for name in settings.profiles:
        fields = [o.split(".", 1)[1].split("=", 1) for o in settings.overrides if o.startswith(name + ".")]
        profile = psc_core.get_profile(name, **{key: _value(raw) for key, raw in fields})
        for prior in settings.priors:
            out.append((name if len(settings.priors) == 1 else f"{name}@{Path(prior).name}", profile, prior))
    return out


def _value(raw: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _paths(settings: Settings) -> list[Path]:
    folder = Path(settings.images)
    if not folder.is_dir():
        raise click.UsageError(f"--images {folder}: not a folder")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)[:: settings.every]
    if not found:
        raise click.UsageError(f"--images {folder}: no photographs in it ({', '.join(sorted(_SUFFIXES))})")
    return found[: settings.limit]


def _image(path: Path, settings: Settings) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    if settings.size:
        image.thumbnail((settings.size, settings.size), Image.Resampling.LANCZOS)
    if settings.crop:
        left, top = (image.width - settings.crop) // 2, (image.height - settings.crop) // 2
        image = image.crop((left, top, left + settings.crop, top + settings.crop))
    return np.asarray(image)


def _shape(settings: Settings) -> str:
    cut = f"{settings.crop} x {settings.crop} centres" if settings.crop else "whole"
    return f"reduced to {settings.size} px, {cut}" if settings.size else cut


def _summary(settings: Settings, curves: Sequence[str], done: dict) -> dict[str, Any]:
    per_image = [{"curve": c, "image": i, "points": p} for (c, i), p in sorted(done.items()) if c in curves]
    mean = {name: mean_curve([q for p in per_image if p["curve"] == name for q in p["points"]]) for name in curves}
    return {
        "settings": {**settings.__dict__, "images": Path(settings.images).name},
        "images": len({p["image"] for p in per_image}),
        "mean": mean,
        "bd_rate_percent": _bd_table(mean),
        "per_image": per_image,
    }


def _bd_table(mean: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float | None]]:
    """anchor -> test -> percent."""
    return {a: {t: bd_rate(mean[a], mean[t]) for t in mean if t != a} for a in mean}


def _text(result: dict[str, Any]) -> str:
    keys = ("bpp", "psnr", "ssim", "ms_ssim", "nfe_encode", "nfe_decode", "seconds_encode", "seconds_decode")
    rows = [
        {"curve": name, **{k: p[k] for k in keys if k in p and not math.isnan(p[k])}}
        for name, points in result["mean"].items()
        for p in points
    ]
    shared = [{k: row.get(k) for k in ("curve", *keys)} for row in rows]
    bd = [{"anchor": a, **line} for a, line in result["bd_rate_percent"].items()]
    names = ["anchor", *result["mean"]]
    square = [{k: row.get(k) for k in names} for row in bd]
    title = "BD-rate in percent against each anchor (negative: fewer bits at equal PSNR)"
    return f"{table(shared)}\n\n{title}\n{table(square)}"


def _load(path: str) -> list[tuple[str, list[dict[str, float]]]]:
    return list(json.loads(Path(path).read_text())["mean"].items())


def _read(checkpoint: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in checkpoint.read_text().splitlines()] if checkpoint.exists() else []
