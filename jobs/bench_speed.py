"""`psc bench speed`: an exact denoiser call beside a float one, and what encoding and decoding cost."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from jobs.console import json_option, out_json, table

VNNI = ("native", "native_amx", "native_avx512vnni", "native_avxvnni")
MACHINES: dict[str, dict[str, str]] = {
    "as it is": {},
    "without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""Variables that take instructions from torch; there the compiled kernels that need VNNI are left out."""


def bench_speed(
    out: str,
    *,
    prior: str = "photo",
    profile: str = "archive",
    overrides: dict[str, Any] | None = None,
    sizes: Sequence[int] = (64, 128, 256),
    threads: Sequence[int] = (1, 2),
    repeat: int = 9,
) -> dict[str, Any]:
    """Measure every backend beside float32 eager, in turns, a process a machine and number of threads.

    ``over_float`` is the median over turns of a backend's seconds over float's in the same turn. Encoding and decoding
    are measured with float and with the fastest backend. Writes ``out``.
    """
    from psc_core.exact.backends import backend_names

    request = {"prior": prior, "profile": profile, "overrides": overrides or {}, "sizes": list(sizes), "repeat": repeat}
    results = []
    for machine, variables in MACHINES.items():
        backends = [b for b in backend_names() if not variables or b not in VNNI]
        for count in threads:
            about = {"machine": machine, "threads": count}
            results += [about | line for line in _run(variables, count, request | {"backends": backends})]
    report = {"request": request, "cpu": _cpu(), "results": results}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(report, indent=1) + "\n")
    return report


@click.command()
@click.option("--prior", default="photo", show_default=True, metavar="PRIOR")
@click.option("--profile", default="archive", show_default=True)
@click.option("--size", "sizes", type=click.IntRange(8), multiple=True, default=(64, 128, 256), show_default=True)
@click.option("--threads", type=click.IntRange(1), multiple=True, default=(1, 2), show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=9, show_default=True, help="Calls of each, in turns.")
@click.option("--out", default="results/speed.json", show_default=True)
@json_option
def command(out: str, as_json: bool, **options: Any) -> None:
    """What a denoiser call costs in exact arithmetic and in float, and what encoding and decoding cost.

    Every CPU backend beside float32 eager, with all instructions and without VNNI; seconds, ratios, network calls
    and peak memory.

    \b
    Example: psc bench speed --size 64 --threads 1
    """
    report = bench_speed(out, **options)
    click.echo(table(rows(report, "calls")))
    click.echo()
    click.echo(table(rows(report, "codec")))
    click.echo(f"wrote {out}")
    if as_json:
        out_json(report)


def rows(report: dict[str, Any], measured: str) -> list[dict[str, Any]]:
    """A row for everything ``measured`` ("calls" by backend, "codec" by arithmetic), size, machine, threads."""
    return [
        {"machine": r["machine"], "threads": r["threads"], "side": r["side"], "with": name}
        | {key: float(f"{value:.4g}") for key, value in found.items()}
        for r in report["results"]
        for name, found in r[measured].items()
    ]


def _run(variables: dict[str, str], threads: int, request: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.bench.speed_cell"],
        input=json.dumps(request),
        env={**os.environ, **variables, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise click.ClickException(f"a measuring process ended with status {done.returncode}: {last}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
