"""The rules of the house: imports point one way, the package loads lazily, nothing names a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"psc_core": set(), "pipeline": {"psc_core"}, "jobs": {"pipeline", "psc_core"}}
SOURCES = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    for path in sorted((ROOT / room).rglob("*.py")):
        upward = imported(path) & (set(ROOMS) - ROOMS[room] - {room})
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


def test_the_codec_knows_no_ray_and_no_files_formats():
    for path in sorted((ROOT / "psc_core").rglob("*.py")):
        assert not imported(path) & {"ray", "fsspec", "pyarrow", "click"}, path


def test_moving_bytes_loads_neither_torch_nor_ray():
    code = (
        "import sys, psc_core; from psc_core import Stream, Profile, get_profile, PscError; import psc_core.metrics; "
        "assert not {'torch', 'diffusers', 'ray'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_files_stay_short():
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_nothing_names_a_machine():
    pattern = re.compile(r"/(?:work|root|home)/\w|\.\./shared")
    for path in [*SOURCES, ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml"]:
        found = pattern.search(path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found}"
