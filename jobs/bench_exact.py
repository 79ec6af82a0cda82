"""`psc bench exact`: the same stream, states and pixels over threads, batches, instruction sets and backends."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from jobs.console import json_option, out_json, table
from jobs.progress import bar

THREADS, BATCHES = (1, 2), (1, 7)
ATEN = ("default", "avx2", "avx512")
ONEDNN = ("SSE41", "AVX2", "AVX512_CORE", "full")
KEYS = ("bytes", "states", "pixels", "attention")


def bench_exact(
    out: str,
    *,
    prior: str = "photo",
    profile: str = "archive",
    overrides: dict[str, Any] | None = None,
    side: int = 32,
    quick: bool = False,
    resume: bool = False,
    pythons: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare every cell of the matrix with the first of its arithmetic; writes ``out``.

    A cell encodes photographs, decodes the stream that the first cell of its arithmetic encoded, and runs a small
    attention UNet. Threads and instruction sets belong to a process, batches and backends vary inside of it. Each CPU
    backend is forced in turn; one that its known-answer test refuses (where torch's int8 product is wrong, say) is
    counted as refused: there the next backend would have been taken.

    Args:
        overrides: fields of the profile. side: photographs are reduced to side x side pixels.
        resume: keep the machines that ``out`` already holds, which is written after each one.
        pythons: other interpreters, with another torch perhaps, that run the first machine's cells too.
    """
    request = {"prior": prior, "profile": profile, "overrides": overrides or {}, "side": side}
    machines = list(_machines(quick, pythons))
    done = _done(Path(out), request) if resume else []
    first: dict[str, dict[str, Any]] = {}
    for result in reversed([r for r in done if "same" in r]):
        first[result["arithmetic"]] = result
    report: dict[str, Any] = {}
    with bar("machine") as shown:
        shown.total = len(machines)
        for machine in machines:
            about = _about(machine)
            if not any(all(r.get(k) == v for k, v in about.items()) for r in done):
                done += _machine(machine, about, quick, request, first)
                report = _write(Path(out), request, done)
            shown.update(1)
    return report or _write(Path(out), request, done)


def _machine(
    machine: dict[str, Any], about: dict[str, Any], quick: bool, request: dict[str, Any], first: dict[str, dict]
) -> list[dict[str, Any]]:
    """The cells of one machine, compared with the first of their arithmetic, which ``first`` learns."""
    cells = list(_cells(quick, 1 if machine["python"] != sys.executable else 0))
    streams = {arithmetic: found["stream"] for arithmetic, found in first.items()}
    results = []
    for cell, found in zip(cells, _run(machine, cells, request | {"streams": streams}), strict=True):
        if "error" not in found:
            reference = first.setdefault(cell["arithmetic"], found)
            found["same"] = {key: found[key] == reference[key] for key in KEYS}
            if found is not reference:
                del found["stream"]
        results.append(cell | about | found)
    return results


def _about(machine: dict[str, Any]) -> dict[str, Any]:
    """A machine in words that name no path; ``python`` only where it is not this one."""
    here = {k: v for k, v in machine.items() if k != "python"}
    return here | {"python": None if machine["python"] == sys.executable else Path(machine["python"]).name}


def _done(out: Path, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Cells that an earlier run of the same request wrote."""
    if not out.is_file():
        return []
    before = json.loads(out.read_text())
    if before["request"] != request:
        raise click.UsageError(f"{out} holds another request: {before['request']}; give another --out, or no --resume")
    return list(before["cells"])


def _write(out: Path, request: dict[str, Any], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The report of the cells so far, in place of the last one."""
    summary = [_summary(arithmetic, cells) for arithmetic in ("exact", "float")]
    versions = sorted({r["torch"] for r in cells if "torch" in r})
    report = {"request": request, "torch": versions, "summary": summary, "cells": cells}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(out)
    return report


@click.command()
@click.option("--prior", default="photo", show_default=True, metavar="PRIOR")
@click.option("--profile", default="archive", show_default=True)
@click.option("--side", type=int, default=32, show_default=True, help="Photographs are reduced to SIDE x SIDE.")
@click.option("--set", "fields", multiple=True, metavar="FIELD=V", help="Change a field of the profile.")
@click.option("--python", "pythons", multiple=True, metavar="PATH", help="Another interpreter to compare; may repeat.")
@click.option("--quick", is_flag=True, help="A handful of cells instead of the whole matrix.")
@click.option("--resume", is_flag=True, help="Go on with what --out already holds.")
@click.option("--out", default="results/exact.json", show_default=True)
@json_option
def command(out: str, as_json: bool, fields: tuple[str, ...], **options: Any) -> None:
    """Do streams, decoder states and pixels agree over threads, batches, instruction sets and kernels?

    Threads 1, 2; batch 1, 7; ATEN_CPU_CAPABILITY; ONEDNN_MAX_CPU_ISA; each exact backend, and float beside them, in
    processes of their own. Exit status 1 if one exact cell differs.

    \b
    Example: psc bench exact --quick
    """
    from jobs.bench.our_codecs import assignment

    overrides = dict(assignment(field, f"--set {field}") for field in fields)
    report = bench_exact(out, overrides=overrides, **options)
    click.echo(table(report["summary"]))
    click.echo(f"wrote {out}")
    if as_json:
        out_json({"summary": report["summary"]})
    exact = report["summary"][0]
    sys.exit(1 if exact["cells"] != exact["identical"] + exact["refused"] else 0)


def _machines(quick: bool, pythons: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What a process is started with."""
    choices: Iterable[tuple[int, str, str]] = itertools.product(THREADS, ATEN, ONEDNN)
    if quick:
        choices = [(1, "avx512", "full"), (2, "default", "SSE41"), (1, "avx2", "AVX2")]
    for threads, aten, onednn in choices:
        yield {"python": sys.executable, "threads": threads, "aten": aten, "onednn": onednn}
    for python in pythons:
        yield {"python": python, "threads": 1, "aten": "avx512", "onednn": "full"}


def _cells(quick: bool, batches: int) -> Iterator[dict[str, Any]]:
    """What one process runs; ``batches``: only the first so many, 0 for all."""
    from psc_core.exact.backends import backend_names

    backends = [b for b in backend_names() if b != "native_portable"] if quick else backend_names()
    for batch in BATCHES[: batches or None]:
        for backend in backends:
            yield {"arithmetic": "exact", "asked": backend, "batch": batch}
        yield {"arithmetic": "float", "asked": "float", "batch": batch}


def _run(machine: dict[str, Any], cells: list[dict[str, Any]], request: dict[str, Any]) -> list[dict[str, Any]]:
    variables = {**os.environ, "OMP_NUM_THREADS": str(machine["threads"]), "ATEN_CPU_CAPABILITY": machine["aten"]}
    variables["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p and "site-packages" not in p)
    if machine["onednn"] != "full":
        variables["ONEDNN_MAX_CPU_ISA"] = machine["onednn"]
    done = subprocess.run(
        [machine["python"], "-m", "jobs.bench.exact_cell"],
        input=json.dumps(request | {"cells": cells}),
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return found + [{"error": last}] * (len(cells) - len(found))


def _summary(arithmetic: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [r for r in results if r["arithmetic"] == arithmetic]
    ran = [r for r in mine if "same" in r]

    def mean(key: str) -> float | None:
        return round(sum(r[key] for r in ran) / len(ran), 3) if ran else None

    return {
        "arithmetic": arithmetic,
        "cells": len(mine),
        "identical": sum(all(r["same"].values()) for r in ran),
        "other_bytes": sum(not r["same"]["bytes"] for r in ran),
        "other_attention": sum(not r["same"]["attention"] for r in ran),
        "other_pixels": sum(not r["same"]["pixels"] for r in ran),
        "refused": sum(bool(r.get("refused")) for r in mine),
        "failed": sum("error" in r and not r.get("refused") for r in mine),
        "seconds_encode": mean("seconds_encode"),
        "seconds_decode": mean("seconds_decode"),
    }
