"""What a job takes along to a cluster: this package as it is installed here, and folders of priors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import psc_core
from pipeline.errors import BadRequest

PACKAGES = ("psc_core", "pipeline", "jobs")
PRIORS = "priors"
"""Where priors lie in the parcel."""
_PASSED_OVER = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".gitignore")


def pack(folder: Path, *, package: bool, priors: Sequence[str]) -> list[str]:
    """Fill ``folder`` with the package, compiled kernels included, and with priors; the names of the priors there.

    Kernels that do not load on the cluster's machines do no harm: torch computes the same integers.

    Raises:
        BadRequest: no such prior, or a name that is taken.
    """
    if package:
        root = Path(psc_core.__file__).parent.parent
        for name in PACKAGES:
            shutil.copytree(root / name, folder / name, ignore=_PASSED_OVER)
    names = [_prior_name(path) for path in priors]
    if len(set(names)) != len(names):
        raise BadRequest(f"two priors of one name: {', '.join(names)}; rename a folder")
    for name, path in zip(names, priors, strict=True):
        target = folder / PRIORS / name
        target.parent.mkdir(exist_ok=True)
        if os.path.isdir(path):
            shutil.copytree(path, target, ignore=_PASSED_OVER, copy_function=_link)
        else:
            _link(path, str(target))
    return names


def requirements() -> list[str]:
    """What the package needs, as pip takes it: what is installed only for development left out, and Ray, which the
    cluster has.
    """
    try:
        needed = requires("psc-archive") or []
    except PackageNotFoundError:
        raise BadRequest("the package is not installed here, so what it needs is not known: pip install .") from None
    return [line for line in needed if "extra ==" not in line and not line.startswith("ray")]


def _prior_name(path: str) -> str:
    if not os.path.exists(path):
        raise BadRequest(f"prior {path}: nothing is there; give a prior's folder or checkpoint on this machine")
    name = os.path.basename(os.path.abspath(path))
    if name in ("photo", "gaussian"):
        raise BadRequest(f"prior {path}: {name} is the name of a bundled prior; rename the folder")
    return name


def _link(source: str, target: str) -> None:
    """A prior may be large, and is only read."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
