"""Plain files: one, a glob's matches, or a whole tree, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pipeline.sources.item import Item, as_text


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
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    # Opening a named pipe would wait for ever.
    if local and os.path.exists(item.path) and not os.path.isfile(item.path):
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
    yield from (_item(info, name) for name, info in sorted(named, key=lambda pair: pair[0]))


def _tree(fs: Any, path: str, prefix: str) -> Iterator[Item]:
    entries = []
    for info in fs.ls(path, detail=True):
        name = info["name"].rstrip("/").rsplit("/", 1)[-1]
        if name.startswith(".") or info["name"].rstrip("/") == path.rstrip("/"):
            continue
        # A link to a folder may lead back up.
        if info.get("islink") and os.path.isdir(info["name"]):
            continue
        is_folder = info["type"] == "directory"
        # With its slash a folder sorts among files as its members' full names do.
        entries.append((name + "/" * is_folder, info))
    for name, info in sorted(entries, key=lambda entry: entry[0]):
        if name.endswith("/"):
            yield from _tree(fs, info["name"].rstrip("/"), prefix + name)
        else:
            yield _item(info, prefix + name)


def _item(info: dict[str, Any], name: str) -> Item:
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    size = info.get("size")
    return Item(as_text(name), info["name"], -1 if size is None else int(size), str(version).strip('"'))
