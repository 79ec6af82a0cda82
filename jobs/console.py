"""What all verbs share: options, tables, the last words of a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from jobs.words import counted

if TYPE_CHECKING:
    from pipeline.dataset.plan import Plan
    from pipeline.dataset.results import Result


def options_of(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in their order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_shares_options = options_of(
    click.option("--worker-cpus", type=float, metavar="N", help="CPUs of each, whether or not any are free yet."),
    click.option("--worker-gpus", type=float, metavar="N", help="GPUs of each, or a share of one, likewise."),
)


def on_ray(alone: str = "this machine") -> Callable[[Callable[..., Any]], Any]:
    """Options of a verb that runs on Ray, and without an address ``alone``; it gets ``workers`` and ``address``."""
    options = options_of(
        click.option("--workers", type=int, metavar="N", help="Actors.  [default: one a GPU, or one a CPU]"),
        _shares_options,
        click.option("--address", metavar="RAY", help=f"A Ray cluster.  [default: RAY_ADDRESS, or {alone}]"),
    )

    def decorate(command: Callable[..., Any]) -> Any:
        @wraps(command)
        def inner(
            *args: Any, workers: int | None, worker_cpus: float | None, worker_gpus: float | None, **others: Any
        ) -> Any:
            if worker_cpus is None and worker_gpus is None:
                return command(*args, workers=workers, **others)
            from pipeline.workers.cluster import Workers

            return command(*args, workers=Workers(workers, worker_cpus, worker_gpus), **others)

        return options(inner)

    return decorate


workers_options = on_ray()


json_option = click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON object.")


def out_json(figures: dict[str, Any]) -> None:
    """One JSON object, on stdout's last line."""
    click.echo(json.dumps(figures, default=str, ensure_ascii=False))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text, numbers to the right."""
    names = list(rows[0]) if rows else []
    return grid(names, [[row[name] for name in names] for row in rows])


def grid(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """:func:`table` of rows whose values are in the order of ``names``."""
    if not rows:
        return "(no rows)"
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    right = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(names))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), line(["-" * w for w in widths]), *map(line, cells)])


def cell(value: Any) -> str:
    """One value of a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = str(value).replace("\n", " ")
    return text if len(text) <= 80 else text[:77] + "..."


def size_text(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def tier_text(tiers: Sequence[dict[str, Any]]) -> str:
    """A tally's tier table."""
    shown = [
        {
            "tier": t["tier"],
            "images": t["images"],
            "size": size_text(t["bytes"]),
            "bpp up to it": t["bpp"],
            "mean PSNR dB": t["psnr"],
        }
        for t in tiers
    ]
    return table(shown)


def summary(result: Result, verb: str) -> str:
    """The last words of a job over a dataset: what this run did, and what the dataset then holds."""
    tally = result.tally
    rate = "" if tally.bpp is None else f", {tally.bpp:.4g} bpp"
    holds, seconds = f"{size_text(tally.bytes)}{rate}", f"{result.seconds:.1f} s"
    done = f"{verb} {counted(result.made, 'image')} into {result.dataset}"
    whole = f"{done}: {holds}, {seconds}"
    lines = [whole if result.made == tally.ok else f"{done} in {seconds} ({tally.ok} in all: {holds})"]
    if failed := sum(tally.failed.values()):
        kinds = ", ".join(f"{n} {code}" for code, n in tally.failed.items())
        lines.append(f"{counted(failed, 'input')} {'has' if failed == 1 else 'have'} no stream: {kinds}")
    return "\n".join([*lines, *left_out(tally.plan), "", tier_text(tally.tier_table())])


def left_out(plan: Plan) -> list[str]:
    """A line about files of the source that are no inputs; none if there are none."""
    if not plan.left_out:
        return []
    others = " and others" if plan.left_out > 1 else ""
    return [f"left out: {counted(plan.left_out, 'Parquet file')} without images ({plan.left_out_first}{others})"]


def read_ids(given: Sequence[str]) -> list[str] | None:
    """Ids from ``--ids``: repeated, separated by commas, or ``@FILE`` with one a line. None if there are
    none.
    """
    ids: list[str] = []
    for text in given:
        if text.startswith("@"):
            try:
                with open(text[1:], encoding="utf-8") as file:
                    ids += [line.rstrip("\n") for line in file if line.strip()]
            except OSError as error:
                raise click.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="--ids") from None
        else:
            ids += [part for part in text.split(",") if part]
    return list(dict.fromkeys(ids)) or None


def beginning(dataset: str) -> Callable[[], None]:
    """What is said when there is nothing that ``--resume`` could go on with."""
    return lambda: click.echo(f"nothing to resume at {dataset}: beginning it", err=True)


def draining() -> None:
    """What is said when Ctrl-C is first pressed."""
    under_way = "what is under way is done (shards, or Ray's start)"
    click.echo(f"\nstopping once {under_way}; Ctrl-C again to leave at once", err=True)


def exit_with(code: int) -> None:
    """End the command with this status."""
    raise SystemExit(code)
