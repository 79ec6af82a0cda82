"""Containers: files that hold many images, and are opened as they are listed; and files that never are one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from pipeline.errors import CannotUnpack, InputChanged, SourceNotFound
from pipeline.sources.item import Item

CONTAINERS = {
    ".tar": "pipeline.sources.tar",
    ".zip": "pipeline.sources.zip",
    ".parquet": "pipeline.sources.parquet",
}
SIDECARS = {
    *(".json", ".jsonl", ".txt", ".cls", ".csv", ".tsv", ".md", ".xml", ".yaml", ".yml", ".html"),
    *(".npy", ".npz", ".pkl", ".idx", ".pdf", ".py", ".db", ".ini"),
}
"""Files beside images that are never images: not inputs, so they get no row."""
UNOPENED = "!"
"""In the place of where inside of a container an item is: it is the container itself, which cannot be opened."""
BLOCK = 256 * 1024
"""Bytes that are fetched at a time. A listing reads headers here and there; stores' own blocks are of up to 50 MB."""


class SidecarOnly(SourceNotFound):
    """A container that has no place for images: captions or the like, beside images."""


@dataclass(frozen=True)
class Contents:
    """What a container holds: items, ascending by id; and what kept it from being listed to its end."""

    items: Iterable[Item]
    error: CannotUnpack | None = None


def expand(fs: Any, file: Item) -> Contents:
    """List a container.

    Raises:
        SidecarOnly: it is one that holds no images.
        OSError: it cannot be read.
    """
    return _module(file.path).expand(fs, file)


def read(fs: Any, item: Item) -> bytes:
    """The bytes of a container's member. Raises OSError, or an error of the input."""
    if item.inner == UNOPENED:
        _say_why(fs, item)
    return _module(item.path).read(fs, item)


def is_container(name: str) -> bool:
    return _suffix(name) in CONTAINERS


def never_an_image(name: str) -> bool:
    return _suffix(name) in SIDECARS


def is_sidecar(name: str) -> bool:
    """Whether a member of a container is one of ``SIDECARS`` or hidden."""
    return os.path.basename(name).startswith(".") or never_an_image(name)


def open_at_places(fs: Any, path: str) -> Any:
    """Open a file of which little is read, here and there."""
    return fs.open(path, "rb", block_size=BLOCK, cache_type="readahead")


def _say_why(fs: Any, item: Item) -> NoReturn:
    error = expand(fs, item).error
    raise error or InputChanged(f"{item.path} can be opened now: compress it into a dataset of its own")


def _module(path: str) -> Any:
    return import_module(CONTAINERS[_suffix(path)])


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
