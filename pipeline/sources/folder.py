"""Plain files: one, a glob's matches, or a whole tree, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pipeline.sources.item import Item, as_text
from pipeline.stores import s3


def files(fs: Any, path: str) -> Iterator[Item]:
    """Every file under ``path``, ascending by its name relative to it. Hidden names are left out.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if any(mark in path for mark in "*?[") and not fs.exists(path):
        yield from _matches(fs, path)
        return
    info = fs.info(path)
    if info["type"] == "directory":
        yield from _tree(fs, path, "")
    else:
        yield _item(info, os.path.basename(path))


def read(fs: Any, item: Item) -> bytes:
    """The file's bytes. Raises OSError."""
    # Opening a named pipe would wait for ever.
    if _is_local(fs) and os.path.exists(item.path) and not os.path.isfile(item.path):
        raise OSError(f"{item.path} is not a regular file")
    return fs.cat_file(item.path)


def again(fs: Any, item: Item) -> Item:
    """The file as it is listed now, or ``item`` if it is gone."""
    try:
        return _item(fs.info(item.path), item.id)
    except OSError:
        return item


def _matches(fs: Any, pattern: str) -> Iterator[Item]:
    found = {p: info for p, info in fs.glob(pattern, detail=True).items() if info["type"] != "directory"}
    if not found:
        raise FileNotFoundError(pattern)
    base = os.path.commonpath([os.path.dirname(p) for p in found])
    named = ((os.path.relpath(p, base), info) for p, info in found.items())
    yield from (_item(info, name) for name, info in sorted(named, key=lambda pair: as_text(pair[0])))


def _tree(fs: Any, path: str, prefix: str) -> Iterator[Item]:
    if hasattr(fs, "call_s3"):
        yield from _objects(fs, path)
        return
    # As ids compare, which are text.
    for name, full, info in sorted(_entries(fs, path), key=lambda entry: as_text(entry[0])):
        if name.endswith("/"):
            yield from _tree(fs, full, prefix + name)
        else:
            yield _item(info or _info(fs, full), prefix + name)


def _entries(fs: Any, path: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """What is directly in a folder, hidden names aside: name, path, and what the listing says of a file, if that is
    enough. With its slash a folder sorts among files as its members' full names do.
    """
    if _is_local(fs):
        # Names alone: a folder of millions of files is held in memory to be sorted.
        with os.scandir(path) as entries:
            for entry in entries:
                is_folder = entry.is_dir()
                # A link to a folder may lead back up.
                if not entry.name.startswith(".") and not (is_folder and entry.is_symlink()):
                    yield entry.name + "/" * is_folder, f"{path.rstrip('/')}/{entry.name}", None
        return
    for info in fs.ls(path, detail=True):
        full = info["name"].rstrip("/")
        name = full.rsplit("/", 1)[-1]
        if not name.startswith(".") and full != path.rstrip("/"):
            told = info["type"] == "file" and info.get("size") is not None
            yield name + "/" * (info["type"] == "directory"), full, info if told else None


def _info(fs: Any, path: str) -> dict[str, Any]:
    """What is known of a file; its name, if it is a link to nowhere or was there a moment ago."""
    try:
        return fs.info(path)
    except FileNotFoundError:
        return {"name": path}


def _objects(fs: Any, path: str) -> Iterator[Item]:
    for info in s3.keys(fs, path):
        name = info["name"].removeprefix(path).lstrip("/")
        hidden = any(part.startswith(".") for part in name.split("/"))
        # Some tools mark a folder by an empty object of its name.
        if not hidden and not name.endswith("/"):
            yield _item(info, name)


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _item(info: dict[str, Any], name: str) -> Item:
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    size = info.get("size")
    return Item(as_text(name), info["name"], -1 if size is None else int(size), str(version).strip('"'))
