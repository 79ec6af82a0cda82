"""One input: a file, or a member of a container; and the names of inputs as text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


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
    r"""``name`` with bytes that are not UTF-8 written as ``\xNN``, and a backslash before an x as ``\x5c``.

    Two names never give the same text, and names that are text keep their order.
    """
    return os.fsencode(name.replace("\\x", "\\x5cx")).decode("utf-8", "backslashreplace")


def as_name(text: str) -> str:
    """The name of which :func:`as_text` made ``text``."""
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode()))


def numbered(names: Sequence[str]) -> Iterator[str]:
    """Each name as it is, where it is first; repeats with the next number that makes no other's name."""
    taken, counts = set(names), dict.fromkeys(names, 0)
    for name in names:
        counts[name] += 1
        free = name
        while counts[name] > 1 and (free := f"{name}#{counts[name]}") in taken:
            counts[name] += 1
        taken.add(free)
        yield free


def condition_columns(item: Item) -> dict[str, str | int | None]:
    """An item's prompt or label, each in its own column."""
    given = item.condition
    return {"prompt": given if isinstance(given, str) else None, "label": given if isinstance(given, int) else None}
