"""What a user types: the `psc` command, one short file a verb.

Every verb is a Python function of the same name, loaded when first used::

    from jobs import compress, query, truncate
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

VERBS = (
    *("plan", "compress", "retry", "decompress", "truncate", "extend", "export"),
    *("info", "status", "verify", "query", "report", "clean", "doctor", "models", "submit"),
)


class _Package(ModuleType):
    """``jobs.compress`` is the function, even after its module ``jobs/compress.py`` was imported."""

    def __getattribute__(self, name: str) -> Any:
        if name in VERBS:
            return getattr(import_module(f"jobs.{name}"), name)
        return super().__getattribute__(name)


sys.modules[__name__].__class__ = _Package

__all__ = list(VERBS)
