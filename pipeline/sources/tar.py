"""Members of an uncompressed tar file, WebDataset shards included, each read by its own byte range."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any

from pipeline.errors import SourceNotFound
from pipeline.sources.item import Item, as_text, numbered


def expand(fs: Any, file: Item) -> Iterator[Item]:
    """The tar's regular files, ascending by name; ``inner`` is ``offset+size``."""
    from pipeline.sources import is_sidecar

    found: list[tuple[str, int, int]] = []
    try:
        with (
            fs.open(file.path, "rb", cache_type="readahead") as raw,
            tarfile.open(fileobj=raw, mode="r:") as tar,
        ):
            for member in tar:
                if not member.isfile() or is_sidecar(member.name):
                    continue
                name = f"{file.id}/{as_text(member.name).removeprefix('./')}"
                found.append((name, member.offset_data, member.size))
    except tarfile.TarError as error:
        raise SourceNotFound(f"{file.path}: not an uncompressed tar file ({error}); unpack it first") from None
    names = numbered([name for name, _, _ in found])
    items = [
        Item(name, file.path, size, file.version, f"{start}+{size}")
        for name, (_, start, size) in zip(names, found, strict=True)
    ]
    yield from sorted(items, key=lambda item: item.id)


def read(fs: Any, item: Item) -> bytes:
    """The member's bytes."""
    start, size = map(int, item.inner.split("+"))
    return fs.cat_file(item.path, start=start, end=start + size) if size else b""
