"""Members of a zip file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

from pipeline.errors import SourceNotFound
from pipeline.sources.item import Item, as_text


def expand(fs: Any, file: Item) -> Iterator[Item]:
    """The zip's files, ascending by name; ``inner`` is ``index:name``, since names may repeat."""
    from pipeline.sources import is_sidecar

    members: list[Item] = []
    seen: dict[str, int] = {}
    try:
        with fs.open(file.path, "rb", cache_type="readahead") as raw, zipfile.ZipFile(raw) as archive:
            for index, member in enumerate(archive.infolist()):
                if member.is_dir() or is_sidecar(member.filename):
                    continue
                name = f"{file.id}/{as_text(member.filename)}"
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name += f"#{seen[name]}"
                inner = f"{index}:{as_text(member.filename)}"
                members.append(Item(name, file.path, member.file_size, f"{member.CRC:08x}", inner))
    except zipfile.BadZipFile as error:
        raise SourceNotFound(f"{file.path}: not a zip file ({error})") from None
    yield from sorted(members, key=lambda item: item.id)


def read(fs: Any, item: Item) -> bytes:
    """The member's bytes. Raises OSError if it does not unpack."""
    index = int(item.inner.split(":", 1)[0])
    try:
        with fs.open(item.path, "rb", cache_type="readahead") as raw, zipfile.ZipFile(raw) as archive:
            member = archive.infolist()[index]
            with archive.open(member) as file:
                # One byte more than declared, so that a bomb is seen and not unpacked.
                data = file.read(member.file_size + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise OSError(f"{item.inner} does not unpack: {error}") from None
    return data
