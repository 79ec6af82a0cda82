"""Sources of images: any fsspec URL of a folder, a file, a glob, or a container of images, as a sorted list
of items.

A container (tar, zip, Parquet) is one module with ``expand`` and ``read``, and one line in
:data:`~pipeline.sources.container.CONTAINERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from pipeline.errors import SourceNotFound
from pipeline.sources import container, folder
from pipeline.sources.container import CONTAINERS, SIDECARS, UNOPENED, is_container, is_sidecar, never_an_image
from pipeline.sources.item import Item, as_name
from pipeline.sources.order import in_order
from pipeline.stores.reach import reaching
from pipeline.stores.storage import open_fs
from pipeline.stores.urls import full_url


@dataclass(frozen=True)
class Source:
    """Where images come from. Pickles as its URL, so that every actor opens its own connection."""

    url: str

    @cached_property
    def _fs(self) -> tuple[Any, str]:
        return open_fs(self.url)

    @cached_property
    def full_url(self) -> str:
        """The URL with its protocol, a local path made absolute."""
        return full_url(self.url, *self._fs)

    def __reduce__(self):
        # A worker may run in another directory.
        return Source, (self.full_url,)

    def items(self, left_out: Callable[[Item], None] = lambda file: None) -> Iterator[Item]:
        """Every input, in ascending order of its id.

        A container that cannot be opened, or be listed to its end, is an input itself, whose reading says why.
        left_out: told of each Parquet file without images, which is none.

        Raises:
            SourceNotFound: there is no such file, folder or bucket; or it is a container that cannot be opened.
        """
        fs, path = self._fs
        try:
            with reaching(self.url):
                files = (file for file in folder.files(fs, path) if not never_an_image(file.id))
                yield from in_order(files, partial(self._members, left_out=left_out))
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFound(f"{self.url}: no such file or folder") from None

    def _members(self, file: Item, left_out: Callable[[Item], None]) -> Iterable[Item] | None:
        """What takes a file's place in the listing; None: nothing does."""
        if not is_container(file.path):
            return None
        fs, path = self._fs
        alone = file.path.strip("/") == path.strip("/")
        itself = replace(file, size=-1, inner=UNOPENED)
        try:
            found = container.expand(fs, file)
        except container.SidecarOnly:
            if alone:
                raise
            left_out(file)
            return ()
        except (FileNotFoundError, PermissionError):
            if alone:
                raise
            return (itself,)
        if found.error is None:
            return found.items
        if alone and not found.items:
            raise SourceNotFound(str(found.error))
        return (itself, *found.items)

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
        return (container if item.inner else folder).read(fs, item)

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
        return full_url(self.full_url, *self._fs, item.path) + (
            f"#{item.inner}" if item.inner not in ("", UNOPENED) else ""
        )


__all__ = ["CONTAINERS", "SIDECARS", "UNOPENED", "Item", "Source", "is_sidecar"]
