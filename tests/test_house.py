"""The rules of the house: imports point one way, the package loads lazily, nothing names a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"psc_core": set(), "pipeline": {"psc_core"}, "jobs": {"pipeline", "psc_core"}}
LAYERS = ("errors", "stores", "sources", "inputs", "dataset", "request", "codec", "workers", "outputs", "remote")
"""Parts of pipeline/, each above those that it may import; what is not named is the work of a verb, above them all."""
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


def pipeline_imports() -> dict[str, set[str]]:
    """Of every module of pipeline/ the others that it imports, wherever in it, for types alone too."""
    files = {p.relative_to(ROOT).with_suffix(""): p for p in SOURCES if p.is_relative_to(ROOT / "pipeline")}
    modules = {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}
    found = {}
    for module, path in modules.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                within = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in modules else node.module for name in within}
        found[module] = names & modules.keys()
    return found


def test_the_pipeline_is_in_layers():
    def height(module: str) -> int:
        part = module.split(".")[1]
        return LAYERS.index(part) if part in LAYERS else len(LAYERS)

    found = pipeline_imports()
    assert {f"pipeline.{part}" for part in LAYERS} <= found.keys()
    for module, others in found.items():
        for other in others:
            assert height(other) <= height(module), f"{module} imports {other}"


def test_no_imports_of_the_pipeline_run_in_a_circle():
    tuple(TopologicalSorter(pipeline_imports()).static_order())


def test_packages_of_the_pipeline_load_nothing():
    for path in sorted((ROOT / "pipeline").glob("*/__init__.py")):
        assert path.parent.name == "sources" or not imported(path), path


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
