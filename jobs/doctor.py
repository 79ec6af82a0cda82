"""`psc doctor`: what this machine has, and what to do about what is missing."""

from __future__ import annotations

from typing import Any

import click

from jobs.console import exit_with, json_option, out_json


def doctor(store: str | None = None) -> dict[str, Any]:
    """Whether this machine is ``usable``, and its ``findings``; see :mod:`pipeline.machine`."""
    from pipeline.machine import examine, usable

    findings = list(examine(store))
    return {"usable": usable(findings), "findings": [finding.as_dict() for finding in findings]}


@click.command()
@click.option("--store", metavar="URL", help="Also try to list this folder or bucket, with the credentials of now.")
@json_option
def command(store: str | None, as_json: bool) -> None:
    """Say what this machine has: torch and its devices, exact arithmetic and its known-answer tests, priors and
    their fingerprints, image formats, Ray, storage; and what to do about what is missing.

    Exit status 0 if psc can work here, 1 if something that it needs is missing or broken.

    \b
    Example: psc doctor
             psc doctor --store s3://bucket/photos --json
    """
    found = doctor(store)
    if as_json:
        out_json(found)
    else:
        click.echo("\n".join(lines(found)))
    exit_with(0 if found["usable"] else 1)


_SIGNS = {"ok": "+", "missing": "-", "broken": "!"}


def lines(found: dict[str, Any]) -> list[str]:
    """Findings by area; what is needed and not there is marked, whatever is not ok says what to do."""
    said, area = [], None
    for finding in found["findings"]:
        if finding["area"] != area:
            area = finding["area"]
            said.append(area)
        sign = "!" if finding["needed"] and finding["state"] != "ok" else _SIGNS[finding["state"]]
        said.append(f"  {sign} {finding['name']}: {finding['found'] or finding['state']}")
        if finding["fix"]:
            said.append(f"      {finding['fix']}")
    verdict = "psc can work here" if found["usable"] else "psc cannot work here: see the lines that begin with !"
    return [*said, "", f"{verdict} (+ there, - not there, ! needed or broken)"]
