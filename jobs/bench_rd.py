"""`psc bench rd`: rate and distortion beside the codecs of today, on the same images, in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from jobs.console import exit_with, json_option, out_json, table
from jobs.progress import bar
from jobs.words import counted
from psc_core.profiles import RESTORATIONS

CODECS = "jpeg,jpeg2000,webp,avif,heic"
BETWEEN = (0.05, 0.3)
_SHOWN = (
    "bpp",
    "psnr",
    "ssim",
    "ms_ssim",
    "lpips",
    "fid",
    "kid",
    "parameters",
    "nfe_encode",
    "nfe_decode",
    "seconds_encode",
    "seconds_decode",
)


def bench_rd(
    images: str,
    *,
    profiles: Sequence[str] = ("archive",),
    priors: Sequence[str] = ("photo",),
    overrides: Sequence[str] = (),
    codecs: Sequence[str] = tuple(CODECS.split(",")),
    cuts: Sequence[float] = (),
    restore: str = "mean",
    arithmetic: str = "exact",
    seed: int = 0,
    in_dataset: bool = False,
    between: tuple[float, float] = BETWEEN,
    out: str = "results/rd",
    fresh: bool = False,
    inception: str | None = None,
    lpips: str | None = None,
    published: str | None = None,
    **photographs: Any,
) -> dict[str, Any]:
    """Measure every curve on every image; write ``out``.json and ``out``.png, and ``out``.measured.jsonl as it goes.

    Args:
        profiles, overrides: see :func:`jobs.bench.our_codecs.variants`.
        codecs: names in :data:`jobs.bench.reference_codecs.CODECS`; those that are not installed are named as absent.
        cuts: rates in bits a pixel at which our streams are also cut.
        in_dataset: leave out the header (some 50 bytes) that all images of a dataset share.
        between: the anchor's rates, in bits a pixel, for the second BD-rate.
        fresh: measure again what an earlier run left in ``out``.measured.jsonl.
        inception, lpips: networks as TorchScript files, for FID and KID, and for LPIPS.
        published: a file of cited points to draw beside; see :mod:`jobs.bench.published`.
        photographs: size, crop, limit, every, captions, labels; see :class:`jobs.bench.photographs.Photographs`.

    Returns:
        The record, as written.

    Raises:
        click.UsageError: a wrong argument, no photographs, or matplotlib is not installed.
        PscError: an unknown profile or prior, a source that is not there.
    """
    if find_spec("matplotlib") is None:
        raise click.UsageError('the benchmark needs matplotlib: pip install "psc-archive[bench]"')
    from jobs.bench import our_codecs, record
    from jobs.bench import published as published_points
    from jobs.bench.distortion import Judge
    from jobs.bench.features import Features
    from jobs.bench.photographs import Photographs
    from jobs.bench.plot import plot
    from jobs.bench.run import Run

    _check(codecs, between)
    our_codecs.check_overrides(overrides, profiles)
    common = {"restore": restore, "arithmetic": arithmetic, "seed": seed, "cuts": tuple(cuts), "in_dataset": in_dataset}
    ours = our_codecs.variants(profiles, priors, overrides, **common)
    checkpoint = record.Checkpoint(Path(f"{out}.measured.jsonl"))
    cited = published_points.read(published) if published else {}
    features = Features(inception, Path(f"{out}.features")) if inception else None
    judge = Judge(lpips=lpips, features=features)
    run = Run(Photographs(images, **photographs), codecs, ours, checkpoint, fresh=fresh, judge=judge)
    with bar("measurement", run.total) as shown:

        def step(curve: str) -> None:
            shown.set_postfix_str(curve)
            shown.update(1)

        run.step = step
        run.run()
    _say(run)
    result = run.summary(between) | ({"published": cited} if cited else {})
    if result["mean"]:
        target = Path(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        record.write(target.with_name(f"{target.name}.json"), result)
        title = f"{run.photographs.source.rstrip('/').rsplit('/', 1)[-1]}: {counted(len(run.images), 'image')}, "
        drawn = published_points.drawn(cited)
        plot(result["mean"], target.with_name(f"{target.name}.png"), title + run.photographs.text(), drawn)
    return result


def compare(files: Sequence[str], between: tuple[float, float] = BETWEEN) -> list[dict[str, Any]]:
    """BD-rates between any two curves of one or more records, on the images that both have.

    With several files a curve is called ``FILE:CURVE``. Raises :class:`click.UsageError` for what is no record.
    """
    from jobs.bench import record

    curves: dict[str, Any] = {}
    for file in files:
        try:
            found = record.read_curves(Path(file))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise click.UsageError(f"{file}: not a record of psc bench rd ({error})") from None
        curves |= {f"{Path(file).stem}:{name}" if len(files) > 1 else name: curve for name, curve in found.items()}
    return record.bd_rates(curves, between)


@click.command()
@click.argument("records", nargs=-1, metavar="[RECORD.json ...]")
@click.option("--images", metavar="SRC", help="Photographs: whatever psc compress takes.")
@click.option("--profile", "profiles", multiple=True, metavar="P", help="NAME, NAME:field=value,... or none; repeat.")
@click.option("--prior", "priors", multiple=True, metavar="PRIOR", help="May repeat.  [default: photo]")
@click.option("--set", "overrides", multiple=True, metavar="P.FIELD=V", help="Change a field of profile P.")
@click.option("--codecs", default=CODECS, show_default=True, help="Of today; or none.")
@click.option("--size", type=click.IntRange(1), metavar="N", help="Reduce to N pixels on the longer side.")
@click.option("--crop", type=click.IntRange(1), metavar="N", help="Then cut out the N x N centre.")
@click.option("--every", type=click.IntRange(1), default=1, metavar="K", help="Only every K-th image.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Of those, only the first N.")
@click.option("--captions", metavar="FILE|COLUMN", help="Prompts for text-conditional priors.")
@click.option("--labels", metavar="FILE|COLUMN", help="Classes for class-conditional priors.")
@click.option("--cut", "cuts", multiple=True, type=float, metavar="BPP", help="Also cut our streams here; may repeat.")
@click.option("--restore", type=click.Choice(RESTORATIONS), default="mean", show_default=True)
@click.option("--arithmetic", type=click.Choice(["exact", "float"]), default="exact", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--in-dataset", is_flag=True, help="Leave out the header that a dataset's images share.")
@click.option("--between", nargs=2, type=float, default=BETWEEN, show_default=True, help="BD-rate: anchor's bpp.")
@click.option("--out", default="results/rd", show_default=True, help="Writes OUT.json and OUT.png.")
@click.option("--fresh", is_flag=True, help="Measure again what OUT.measured.jsonl holds.")
@click.option("--inception", metavar="FILE|URL", help="TorchScript feature network: FID, KID of random crops.")
@click.option("--lpips", metavar="FILE|URL", help="TorchScript of LPIPS.")
@click.option("--published", metavar="FILE.json", help="Cited points of others, drawn beside.")
@click.option("--compare", "only_compare", is_flag=True, help="Only BD-rates between curves of RECORDs.")
@json_option
def command(
    records: tuple[str, ...], images: str | None, only_compare: bool, as_json: bool, codecs: str, **options: Any
) -> None:
    """Rate (every byte), PSNR, SSIM, network calls, seconds and memory beside the codecs of today.

    A run that was stopped goes on where it was. LABEL=NAME:... joins profiles into one curve.

    \b
    Example: psc bench rd --images photos/ --size 256 --out results/photos
             psc bench rd --compare results/photos.json results/others.json
    """
    if only_compare or records:
        if not records or images is not None:
            raise click.UsageError("--compare takes one or more RECORD.json and no --images")
        rates = compare(records, options["between"])
        click.echo(_rates_text(rates, options["between"]))
        if as_json:
            out_json({"bd_rate": rates})
        return
    if images is None:
        raise click.UsageError("--images SRC: which photographs?")
    profiles = options.pop("profiles") or ("archive",)
    result = bench_rd(
        images,
        profiles=tuple(p for p in profiles if p != "none"),
        priors=options.pop("priors") or ("photo",),
        codecs=tuple(c for c in codecs.split(",") if c and c != "none"),
        **options,
    )
    click.echo(_curves_text(result["mean"]))
    click.echo("\n" + _rates_text(result["bd_rate"], options["between"]))
    if result["mean"]:
        click.echo(f"\nwrote {options['out']}.json and {options['out']}.png")
    if as_json:
        out_json({key: value for key, value in result.items() if key != "per_image"})
    exit_with(2 if not result["mean"] else int(bool(result["failures"])))


def _check(codecs: Sequence[str], between: tuple[float, float]) -> None:
    from jobs.bench.reference_codecs import CODECS as KNOWN

    if unknown := set(codecs) - set(KNOWN):
        raise click.UsageError(f"--codecs {', '.join(sorted(unknown))}: choose from {', '.join(KNOWN)}")
    if not 0 < between[0] < between[1]:
        raise click.UsageError(f"--between {between[0]:g} {between[1]:g}: expected two rising rates above 0")


def _say(run: Any) -> None:
    """On stderr: what is missing, and what was not measured now."""
    for name, why in run.absent.items():
        click.echo(f"{name} is not measured: {why}", err=True)
    for name, what in run.judge.learned.items():
        if what.startswith("absent"):
            click.echo(f"{name} is {what}", err=True)
    if run.reused:
        mixed = "; by different versions of psc_core, --fresh measures all again" if len(run.codes) > 1 else ""
        whole = counted(run.total, "measurement")
        click.echo(f"{run.reused} of {whole} read from {run.checkpoint.path.name}{mixed}", err=True)
    for failure in run.failures[:20]:
        click.echo(f"{failure['curve'] or 'reading'} {failure['image']}: {failure['error']}", err=True)


def _curves_text(mean: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    points = [(name, point) for name, curve in mean.items() for point in curve]
    keys = [key for key in _SHOWN if any(key in point for _, point in points)]
    rows = []
    for name, point in points:
        memory = max(point.get("memory_mb_encode", 0.0), point.get("memory_mb_decode", 0.0))
        rows.append(
            {"curve": name, "setting": point["setting"], **{key: point.get(key) for key in keys}, "memory_mb": memory}
        )
    short = str.maketrans({"_": " "})
    return table([{key.replace("seconds", "s").translate(short): value for key, value in row.items()} for row in rows])


def _rates_text(rates: Sequence[dict[str, Any]], between: tuple[float, float]) -> str:
    from jobs.bench.record import square

    parts = []
    for key, where in (("percent", "where both are"), ("percent_between", "{:g} to {:g} bpp".format(*between))):
        grid = square(rates, key)
        rows = [{"against": a, **{t: line.get(t) for t in grid}} for a, line in grid.items()]
        parts.append(f"BD-rate in percent, {where} (negative: fewer bits at equal PSNR)\n{table(rows)}")
    return "\n\n".join(parts)
