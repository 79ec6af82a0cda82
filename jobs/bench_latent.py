"""`psc bench latent`: what the networks of Latent-PSC cost at full size, exact beside float, and an image's seconds."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from jobs.bench.stable_diffusion import SD2, random_network
from jobs.bench_speed import _cpu
from jobs.console import json_option, out_json, table

PARTS = tuple(SD2)
PROFILES = ("archive", "paper-latent")
SCALE = 8


def bench_latent(
    out: str, *, parts: Sequence[str] = PARTS, settings: dict[str, dict[str, Any]] | None = None, repeat: int = 1
) -> dict[str, Any]:
    """Measure each part in exact and float arithmetic on one thread of the CPU, keep in ``out`` what it held of others.

    Seconds are the thread's own processor time, which other work on the machine disturbs little.

    Once all parts are there, ``projected`` has the seconds an image of the model's own size would take: calls that a
    profile makes times seconds a call, on this machine. None of it depends on the weights, which are random.
    """
    import torch

    settings, threads = settings or SD2, torch.get_num_threads()
    torch.set_num_threads(1)
    path = Path(out)
    report = json.loads(path.read_text()) if path.is_file() else {}
    report |= {
        "networks": "stabilityai/stable-diffusion-2-base, random weights" if settings is SD2 else "as given",
        "cpu": _cpu(),
        "seconds": "processor time of one thread",
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none was at hand: CPU alone",
    }
    for part in parts:
        with torch.no_grad():
            found = _MEASURES[part](settings, repeat)
        found["load_average"] = round(os.getloadavg()[0], 1)
        found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        report[part] = found
        if set(PARTS) <= set(report):
            report["projected"] = [projected(report, settings, name) for name in PROFILES]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
    torch.set_num_threads(threads)
    return report


@click.command()
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="All, if not given.")
@click.option(
    "--repeat", type=click.IntRange(1), default=1, show_default=True, help="Calls of each; the fastest counts."
)
@click.option("--out", default="results/latent-unet.json", show_default=True)
@json_option
def command(out: str, as_json: bool, **options: Any) -> None:
    """What the networks of Stable Diffusion 2 cost in exact arithmetic and in float, and what that makes of an image.

    The UNet, the autoencoder and the text encoder at full size with random weights, on one thread of the CPU, in
    seconds of its time; about 6 GB of memory.

    \b
    Example: psc bench latent --part unet
    """
    report = bench_latent(out, **options)
    click.echo(table(rows(report)))
    if "projected" in report:
        click.echo()
        click.echo(table(report["projected"]))
    click.echo(f"wrote {out}")
    if as_json:
        out_json(report)


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a measured call: seconds exact and float, and how far the results are apart."""
    return [
        {"part": part, "call": name} | {key: float(f"{value:.3g}") for key, value in call.items()}
        for part in PARTS
        if part in report
        for name, call in report[part]["calls"].items()
    ]


def calls_of(profile: Any) -> dict[str, int]:
    """Denoiser calls times samples that one canvas takes, by the fields of its profile."""
    if profile.codec == "psc":
        sensing = profile.samples * profile.steps * profile.stages * profile.tiers
        restoring = profile.restore_samples * profile.steps
    else:
        sensing = profile.samples * (profile.first_steps + (profile.tiers - 1) * profile.steps)
        restoring = profile.restore_samples * profile.restore_steps
    return {"encode": sensing, "decode": sensing + restoring, "decode perceptual": sensing + profile.perceptual_steps}


def projected(report: dict[str, Any], settings: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Seconds for one image of the model's own size on the machine of the report."""
    from psc_core.fitted import fitted
    from psc_core.profiles import get_profile

    profile = fitted(get_profile(name), settings["unet"]["sample_size"] * SCALE, SCALE)
    row: dict[str, Any] = {"profile": name}
    for arithmetic in ("exact", "float"):
        call, enter, leave, text = (
            report[part]["calls"][which][arithmetic]
            for part, which in (
                ("unet", "denoise"),
                ("autoencoder", "encode"),
                ("autoencoder", "decode"),
                ("text", "prompt"),
            )
        )
        for what, count in calls_of(profile).items():
            if what == "decode perceptual":
                continue  # guidance takes gradients too, which were not measured
            around = text + (enter + profile.tiers * leave if what == "encode" else leave)
            row |= {f"{what} calls": count, f"{what} s {arithmetic}": round(count * call + around)}
    return row


def _unet(settings: dict[str, dict[str, Any]], repeat: int) -> dict[str, Any]:
    import torch

    from psc_core.exact.unet import ExactUNet

    model = random_network("unet", settings["unet"])
    x = _noise(1, settings["unet"]["in_channels"], *[settings["unet"]["sample_size"]] * 2)
    text = _noise(1, 77, settings["unet"]["cross_attention_dim"])
    seconds, want = _timed(lambda: model(x, torch.tensor(500.0), text).sample, repeat)
    size = sum(p.numel() for p in model.parameters())
    converting, net = _timed(lambda: ExactUNet(model), 1)
    embedding, last = net.embed(500.0), _last(x)
    exact, got = _timed(lambda: net(last, embedding, text[:, None]), repeat)
    calls = {"denoise": _both(exact, seconds, got.permute(0, 3, 1, 2), want)}
    return {"parameters": size, "seconds_to_convert": converting, "backend": net.backend.name, "calls": calls}


def _autoencoder(settings: dict[str, dict[str, Any]], repeat: int) -> dict[str, Any]:
    from psc_core.exact.vae import ExactAutoencoder

    model = random_network("autoencoder", settings["autoencoder"])
    side = settings["unet"]["sample_size"]
    scale = 2 ** (len(settings["autoencoder"]["block_out_channels"]) - 1)
    pixels = _noise(1, 3, side * scale, side * scale).clamp(-1, 1)
    entering, latent = _timed(lambda: model.encode(pixels).latent_dist.mode(), repeat)
    z = _noise(1, settings["autoencoder"]["latent_channels"], side, side)
    leaving, picture = _timed(lambda: model.decode(z).sample, repeat)
    size = sum(p.numel() for p in model.parameters())
    net = ExactAutoencoder(model)
    exact_in, got_latent = _timed(lambda: net.encode(_last(pixels)), repeat)
    exact_out, got_picture = _timed(lambda: net.decode(_last(z)), repeat)
    calls = {
        "encode": _both(exact_in, entering, got_latent.permute(0, 3, 1, 2), latent),
        "decode": _both(exact_out, leaving, got_picture.permute(0, 3, 1, 2), picture),
    }
    return {"parameters": size, "backend": net.backend.name, "calls": calls}


def _text(settings: dict[str, dict[str, Any]], repeat: int) -> dict[str, Any]:
    import torch

    from psc_core.exact.clip import ExactTextEncoder

    model = random_network("text", settings["text"])
    ids = [i * 40503 % settings["text"]["vocab_size"] for i in range(settings["text"]["max_position_embeddings"])]
    seconds, want = _timed(lambda: model(torch.tensor([ids])).last_hidden_state[0], repeat)
    size = sum(p.numel() for p in model.parameters())
    net = ExactTextEncoder(model)
    exact, (got, _) = _timed(lambda: net(ids, len(ids) - 1, False), repeat)
    return {"parameters": size, "calls": {"prompt": _both(exact, seconds, got, want)}}


_MEASURES: dict[str, Callable[[dict[str, dict[str, Any]], int], dict[str, Any]]] = {
    "unet": _unet,
    "autoencoder": _autoencoder,
    "text": _text,
}


def _timed(compute: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """The fewest processor seconds of some calls, and what the last gave."""
    seconds = []
    for _ in range(repeat):
        began = time.process_time()
        result = compute()
        seconds.append(time.process_time() - began)
    return min(seconds), result


def _both(exact: float, plain: float, got: Any, want: Any) -> dict[str, float]:
    """Seconds of both, and the RMS of their difference over that of the float result about its mean."""
    error = float((got - want).norm() / (want - want.mean()).norm())
    return {"exact": exact, "float": plain, "relative_rms": error}


def _noise(*shape: int) -> Any:
    import torch

    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(1))


def _last(x_NCHW: Any) -> Any:
    return x_NCHW.permute(0, 2, 3, 1).contiguous()
