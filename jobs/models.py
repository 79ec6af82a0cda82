"""`psc models`: the models that are at hand, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from jobs.console import exit_with, json_option, out_json, size_text, table


def models(paths: Sequence[str] = (), *, fingerprints: bool = False) -> list[dict[str, Any]]:
    """The bundled models, those in the hub's cache, and those at ``paths`` or directly below.

    A model that is of a known kind and cannot be used has ``problem``. With ``fingerprints`` each is loaded, for what
    streams name it by.

    Raises:
        PriorNotFound: a path that holds no model.
    """
    from psc_core.errors import PriorNotFound
    from psc_core.priors import catalog

    found = [("bundled", model) for model in catalog.bundled()]
    found += [("hub cache", model) for model in catalog.in_hub_cache()]
    for path in paths:
        here = catalog.at(Path(path))
        if not here:
            raise PriorNotFound(
                f"{path}: no model in it. Expected a folder of psc train-prior or of a diffusers pipeline, a file "
                "of guided-diffusion (.pt), or a folder of such"
            )
        found += [("given", model) for model in here]
    return [_row(where, model, fingerprints) for where, model in found]


def _row(where: str, model: Any, fingerprint: bool) -> dict[str, Any]:
    row = {
        "name": model.name,
        "kind": model.kind,
        "where": where,
        "parameters": model.parameters,
        "bytes": model.bytes,
        "native_size": model.native_size,
        "condition": model.condition,
        "classes": model.classes,
        "files": model.files,
        "path": str(model.path),
        "problem": model.problem,
    }
    return row | (_fingerprint(model) if fingerprint else {})


def _fingerprint(model: Any) -> dict[str, Any]:
    """What a stream made with it says. The exact form of the weights decides it, so the model must be converted."""
    import psc_core

    if model.problem is not None:
        return {"fingerprint": None}
    try:
        return {"fingerprint": psc_core.load_prior(model.name).fingerprint}
    except psc_core.PscError as error:
        return {"fingerprint": None, "problem": str(error)}


@click.command()
@click.argument("paths", nargs=-1, metavar="[FOLDER|FILE.pt ...]")
@click.option("--fingerprint", "fingerprints", is_flag=True, help="Load each, for the fingerprint that streams carry.")
@json_option
def command(paths: tuple[str, ...], fingerprints: bool, as_json: bool) -> None:
    """List the models that `--prior` takes: bundled, in the Hugging Face cache, and in the FOLDERs given.

    sha256 is over the file of weights (of a pipeline of several, its UNet's; --json has all). A stream names its model
    by a fingerprint over the weights as they are computed with.

    \b
    Example: psc models
             psc models checkpoints/ --fingerprint --json
    """
    rows = models(paths, fingerprints=fingerprints)
    if as_json:
        out_json({"models": rows})
    else:
        click.echo(table([_shown(row) for row in rows]))
        for row in rows:
            if row["problem"]:
                click.echo(f"{row['name']} cannot be used: {row['problem']}", err=True)
    exit_with(int(any(row["problem"] for row in rows)))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    classes = "" if row["classes"] is None else f" (0 to {row['classes'] - 1})"
    first = next(iter(row["files"].values()), {"sha256": ""})
    shown = {
        "model": row["name"],
        "kind": row["kind"],
        "where": row["where"],
        "parameters": f"{row['parameters'] / 1e6:.1f} M",
        "size": size_text(row["bytes"]),
        "native size": row["native_size"],
        "condition": f"{row['condition']}{classes}" if row["condition"] else None,
        "sha256": first["sha256"][:16],
    }
    return shown | ({"fingerprint": row["fingerprint"]} if "fingerprint" in row else {})
