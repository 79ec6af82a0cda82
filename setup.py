"""Builds the optional compiled kernels; everything else about the package is in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

PACKAGE = Path("psc_core/exact")
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]


def compile_kernels(target: Path) -> None:
    """One plain shared library, loaded by ctypes: it needs a C compiler but no Python headers."""
    sources = sorted(str(path) for path in (PACKAGE / "kernels").glob("*.c"))
    command = [os.environ.get("CC", "cc"), *FLAGS, "-o", str(target), *sources, "-lm"]
    for threads in (["-fopenmp"], []):
        try:
            subprocess.run([*command, *threads], check=True)
            return
        except (OSError, subprocess.CalledProcessError) as error:
            reason = error
    print(f"psc-archive: kernels not compiled ({reason}); exact arithmetic uses torch instead", file=sys.stderr)


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        target = PACKAGE if self.editable_mode else Path(self.build_lib) / PACKAGE
        compile_kernels(target / "_native.so")


class BinaryDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildPy}, distclass=BinaryDistribution)
