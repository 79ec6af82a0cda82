"""The JSON beside a model's weights, which anybody may have written: errors name the file, the field and its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psc_core.errors import InvalidPrior


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object. Raises :class:`InvalidPrior`."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise InvalidPrior(f"{path} is missing: expected a JSON object of settings") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidPrior(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidPrior(f"{path}: expected a JSON object of settings, not {_shown(found)}")
    return found


def number(settings: Mapping[str, Any], field: str, low: float, high: float, default: float | None = None) -> float:
    """A field's number from ``low`` to ``high``. Raises :class:`InvalidPrior`."""
    value = settings.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidPrior(f"{field}={_shown(value)}: expected a number from {low:g} to {high:g}")
    return float(value)


def whole(settings: Mapping[str, Any], field: str, low: int, high: int, default: int | None = None) -> int:
    """A field's whole number from ``low`` to ``high``. Raises :class:`InvalidPrior`."""
    value = settings.get(field, default)
    if type(value) is not int or not low <= value <= high:
        raise InvalidPrior(f"{field}={_shown(value)}: expected a whole number from {low} to {high}")
    return value


def _shown(value: Any) -> str:
    """As JSON has it, in a line."""
    said = json.dumps(value)
    return said if len(said) <= 40 else said[:40] + "…"
