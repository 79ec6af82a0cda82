"""Sources of images: any fsspec URL of a folder, a file, a glob, or a container of images, as a sorted list
of items.

A container (tar, zip, Parquet) is one module with ``expand`` and ``read``, and one line in ``CONTAINERS``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any

from pipeline.errors import SourceNotFound
from pipeline.reach import reaching
from pipeline.sources import folder
from pipeline.sources.item import Item, as_name
from pipeline.storage import open_fs

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


@dataclass(frozen=True)
class Source:
    """Where images come from. Pickles as its URL, so that every actor opens its own connection."""

    url: str

    @cached_property
    def _fs(self) -> tuple[Any, str]:
        return open_fs(self.url)

    @property
    def full_url(self) -> str:
        """The URL with its protocol, a local path made absolute."""
        fs, path = self._fs
        return fs.unstrip_protocol(path)

    def __reduce__(self):
        # A worker may run in another directory.
        return Source, (self.full_url,)

    def items(self) -> Iterator[Item]:
        """Every input, in ascending order of its id.

        Raises:
            SourceNotFound: there is no such file, folder or bucket.
        """
        fs, path = self._fs
        try:
            with reaching(self.url):
                for file in folder.files(fs, path):
                    suffix = _suffix(file.id)
                    if suffix in CONTAINERS:
                        yield from import_module(CONTAINERS[suffix]).expand(fs, file)
                    elif suffix not in SIDECARS:
                        yield file
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFound(f"{self.url}: no such file or folder") from None

    def check(self) -> None:
        """Raise :class:`SourceNotFound` if plainly nothing is there."""
        fs, path = self._fs
        with reaching(self.url):
            there = fs.exists(path) or fs.glob(path)
        if not there:
            raise SourceNotFound(f"{self.url}: no such file or folder")

    def read(self, item: Item) -> bytes:
        """The bytes of one input. Raises OSError, what the file system raises, or an error of the input."""
        fs, _ = self._fs
        suffix = _suffix(os.path.basename(item.path))
        if item.inner:
            return import_module(CONTAINERS[suffix]).read(fs, item)
        return folder.read(fs, item)

    def now(self, item: Item) -> Item:
        """The item with the size and version that it has now; a container's member, or what is gone, as it is."""
        fs, _ = self._fs
        if item.inner:
            return item
        return replace(folder.again(fs, item), condition=item.condition, origin=item.origin)

    def absent(self, image_id: str) -> Item:
        """An item for an id that the listing does not have: reading it says that it is not there."""
        return Item(image_id, f"{self._fs[1]}/{as_name(image_id)}", -1)

    def name(self, item: Item) -> str:
        """Where the item is, for people."""
        fs, _ = self._fs
        return fs.unstrip_protocol(item.path) + (f"#{item.inner}" if item.inner else "")


def is_sidecar(name: str) -> bool:
    """Whether a member of a container is one of ``SIDECARS`` or hidden."""
    return os.path.basename(name).startswith(".") or _suffix(name) in SIDECARS


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


__all__ = ["CONTAINERS", "SIDECARS", "Item", "Source", "is_sidecar"]
