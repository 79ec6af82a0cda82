"""`psc bench exact`: the same stream, states and pixels over threads, batches, instruction sets and backends."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from jobs.console import bar, json_option, out_json, table

THREADS, BATCHES = (1, 2), (1, 7)
ATEN = ("default", "avx2", "avx512")
ONEDNN = ("SSE41", "AVX2", "AVX512_CORE", "full")
KEYS = ("bytes", "states", "pixels")


def bench_exact(
    out: str,
    *,
    prior: str = "photo",
    profile: str = "archive",
    overrides: dict[str, Any] | None = None,
    side: int = 32,
    quick: bool = False,
) -> dict[str, Any]:
    """Run every cell in a process of its own and compare it with the first; writes ``out``.

    A cell encodes photographs and decodes the stream that the first cell of its arithmetic encoded. Each CPU backend
    is forced in turn; one that its known-answer test refuses in a cell (where torch's int8 product is wrong, say) is
    counted as refused: there the next backend would have been taken.
    """
    request = {"prior": prior, "profile": profile, "overrides": overrides or {}, "side": side}
    cells = list(_cells(quick))
    first: dict[str, dict[str, Any]] = {}
    results = []
    with bar("cell") as shown:
        shown.total = len(cells)
        for cell in cells:
            reference = first.get(cell["arithmetic"])
            found = _run(cell, request | {"stream": reference["stream"] if reference else None})
            if "error" not in found:
                reference = first.setdefault(cell["arithmetic"], found)
                found["same"] = {key: found[key] == reference[key] for key in KEYS}
            results.append(cell | {k: v for k, v in found.items() if k != "stream"})
            shown.update(1)
    summary = [_summary(arithmetic, results) for arithmetic in ("exact", "float")]
    report = {"request": request, "summary": summary, "cells": results}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(report, indent=1) + "\n")
    return report


@click.command()
@click.option("--prior", default="photo", show_default=True, metavar="PRIOR")
@click.option("--profile", default="archive", show_default=True)
@click.option("--side", type=int, default=32, show_default=True, help="Photographs are reduced to SIDE x SIDE.")
@click.option("--quick", is_flag=True, help="A handful of cells instead of the whole matrix.")
@click.option("--out", default="results/exact.json", show_default=True)
@json_option
def command(out: str, as_json: bool, **options: Any) -> None:
    """Do streams, decoder states and pixels agree over threads, batches, instruction sets and kernels?

    Every cell is a process of its own: threads 1, 2; batch 1, 7; ATEN_CPU_CAPABILITY; ONEDNN_MAX_CPU_ISA; each exact
    backend, and float beside them. Exit status 1 if one exact cell differs.

    \b
    Example: psc bench exact --quick
    """
    report = bench_exact(out, **options)
    click.echo(table(report["summary"]))
    click.echo(f"wrote {out}")
    if as_json:
        out_json({"summary": report["summary"]})
    exact = report["summary"][0]
    sys.exit(1 if exact["cells"] != exact["identical"] + exact["refused"] else 0)


def _cells(quick: bool) -> Iterator[dict[str, Any]]:
    from psc_core.exact.backends import backend_names

    backends = [b for b in backend_names() if b != "native_portable"] if quick else backend_names()
    machines: Iterable[tuple[int, int, str, str]] = itertools.product(THREADS, BATCHES, ATEN, ONEDNN)
    if quick:
        machines = [(1, 1, "avx512", "full"), (2, 7, "default", "SSE41"), (1, 7, "avx2", "AVX2")]
    for threads, batch, aten, onednn in machines:
        base = {"threads": threads, "batch": batch, "aten": aten, "onednn": onednn}
        for backend in backends:
            yield {"arithmetic": "exact", "asked": backend, **base}
        yield {"arithmetic": "float", "asked": "float", **base}


def _run(cell: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    variables = {**os.environ, "OMP_NUM_THREADS": str(cell["threads"]), "ATEN_CPU_CAPABILITY": cell["aten"]}
    variables |= {"PSC_EXACT_BACKEND": cell["asked"]} if cell["arithmetic"] == "exact" else {}
    if cell["onednn"] != "full":
        variables["ONEDNN_MAX_CPU_ISA"] = cell["onednn"]
    asked = json.dumps(request | {"arithmetic": cell["arithmetic"], "batch": cell["batch"]})
    done = subprocess.run(
        [sys.executable, "-m", "jobs.bench.exact_cell", asked],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return {"error": last, "refused": "known-answer" in last}


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
        "other_pixels": sum(not r["same"]["pixels"] for r in ran),
        "refused": sum(bool(r.get("refused")) for r in mine),
        "failed": sum("error" in r and not r.get("refused") for r in mine),
        "seconds_encode": mean("seconds_encode"),
        "seconds_decode": mean("seconds_decode"),
    }
