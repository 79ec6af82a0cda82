"""The pages of docs/ and the changelog: what they point at is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from jobs import cli
from pipeline.dataset.schema import SCHEMA_VERSION
from psc_core.coding.header import VERSION

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)#\s]+)\)")
FILE = re.compile(r"`((?:psc_core|pipeline|jobs|tests|infra|docs|results)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_are_there(page):
    text = page.read_text()
    for link in LINK.findall(text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for name in FILE.findall(text):
        # Some figures are written by long runs: those of results/ may be named before they are there.
        assert (ROOT / name).exists() or name.startswith("results/"), name


def test_architecture_names_files_of_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"(?<![\w/])([a-z_]+(?:/[a-z_]+)*\.py)", text):
        assert any(p.as_posix().endswith(f"/{name}") for p in ROOT.rglob(Path(name).name)), name


def test_the_changelog_knows_this_version_and_its_formats():
    text = (ROOT / "CHANGELOG.md").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    row = next(line for line in text.splitlines() if line.startswith("| ") and version in line)
    streams, schemas = (cell.strip().split(", ") for cell in row.strip("|").split("|")[1:])
    assert (streams[-1], schemas[-1]) == (str(VERSION), str(SCHEMA_VERSION))
    for number in streams:
        assert f"Stream format {number}:" in text


def test_the_changelog_names_every_command():
    text = (ROOT / "CHANGELOG.md").read_text()
    for name in cli._HELP:
        assert f"`{name}" in text, name
