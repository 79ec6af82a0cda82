"""Members of an uncompressed tar file, WebDataset shards included, each read by its own byte range."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CannotUnpack
from pipeline.sources.container import Contents, is_sidecar, open_at_places
from pipeline.sources.item import Item, as_text, numbered


@dataclass(frozen=True)
class Member:
    """A regular file: its name as text, and its bytes' place in the tar."""

    name: str
    start: int
    size: int


def expand(fs: Any, file: Item) -> Contents:
    """The tar's images, ascending by name; ``inner`` is ``offset+size``. Of a tar that is cut off or damaged, those
    before that place.
    """
    found, error = members(fs, file.path)
    images = [member for member in found if not is_sidecar(member.name)]
    names = numbered([f"{file.id}/{member.name}" for member in images])
    items = [
        Item(name, file.path, member.size, file.version, f"{member.start}+{member.size}")
        for name, member in zip(names, images, strict=True)
    ]
    return Contents(sorted(items, key=lambda item: item.id), error)


def members(fs: Any, path: str) -> tuple[list[Member], CannotUnpack | None]:
    """The tar's regular files in their order, and what kept it from being listed to its end. Raises OSError."""
    found: list[Member] = []
    try:
        with open_at_places(fs, path) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    found.append(Member(as_text(member.name).removeprefix("./"), member.offset_data, member.size))
            _check_end(raw, tar.offset)
    # What is in a damaged header may also be no number, or no text.
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as damage:
        if found:
            return found, CannotUnpack(
                f"{path}: damaged after {len(found)} files ({damage}); mend it, and list it anew"
            )
        return [], CannotUnpack(f"{path}: not an uncompressed tar file ({damage}); unpack it first")
    return found, None


def read(fs: Any, item: Item) -> bytes:
    """The member's bytes."""
    start, size = map(int, item.inner.split("+"))
    return fs.cat_file(item.path, start=start, end=start + size) if size else b""


def _check_end(raw: Any, offset: int) -> None:
    """Raise ReadError unless the members ended where the tar does: Python stops at a header that is none."""
    raw.seek(offset)
    if raw.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {offset}")
