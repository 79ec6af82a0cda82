"""One input: a file, or a member of a container."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One input of a job.

    id: unique in its source, a valid Unicode text; path: on the source's file system; inner: where inside
    the container, empty for a plain file; size: bytes, or -1 if the listing does not tell; version: etag or
    modification time, whatever the listing tells; condition: the prompt or class label that it is encoded under;
    origin: where that came from.
    """

    id: str
    path: str
    size: int
    version: str = ""
    inner: str = ""
    condition: str | int | None = None
    origin: str = ""


def as_text(name: str) -> str:
    """``name`` with bytes that are not Unicode written as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def condition_columns(item: Item) -> dict[str, str | int | None]:
    """An item's prompt or label, each in its own column."""
    given = item.condition
    return {"prompt": given if isinstance(given, str) else None, "label": given if isinstance(given, int) else None}
