"""The source image of a row, where it can still be had: known by its sha256, and as the encoder saw it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.inputs.images import MAX_BYTES, MAX_PIXELS, Rejected, read_image
from pipeline.sources import CONTAINERS, Item, Source
from pipeline.sources.item import as_name
from pipeline.stores.storage import open_fs

NEEDED = ("image_id", "source", "source_version", "sha256", "source_bytes", "width", "height")
"""Columns of a row that tell its original."""


def originals(rows: Iterable[Mapping[str, Any]], source: str | None = None) -> dict[str, np.ndarray | str]:
    """By image id the pixels (H, W, C), reduced as they were for encoding, or in one phrase why there are none.

    source: where the dataset's images are now; without it, each is looked for where its row says that it was. A file
    with another sha256 is not the original, wherever it lies, and is not shown.

    Raises:
        SourceNotFound: ``source`` is not there.
    """
    wanted = {row["image_id"]: row for row in rows}
    candidates = _recorded(wanted.values()) if source is None else _given(wanted, Source(source))
    found: dict[str, np.ndarray | str] = dict.fromkeys(wanted, "its source file is not at hand")
    for image_id, data in candidates:
        row = wanted[image_id]
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            found[image_id] = "the source has another file by its name now"
            continue
        try:
            # The longer side as encoded: what was reduced is reduced again, what was not stays.
            longest = max(row["width"], row["height"])
            found[image_id], _ = read_image(data, size=longest, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES)
        except Rejected as rejected:
            found[image_id] = f"its source file cannot be read here: {rejected.error}"
    return found


def _recorded(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for row in rows:
        try:
            data = _where_it_was(row)
        except OSError:
            continue
        # An unknown protocol, no credentials, no network: so it will be with the others, and waiting takes long.
        except Exception:
            return
        if data is not None:
            yield row["image_id"], data


def _where_it_was(row: Mapping[str, Any]) -> bytes | None:
    url, inner = _split(as_name(row["source"]))
    fs, path = open_fs(url)
    # A file of another size is another file: not worth reading.
    if not inner and fs.info(path)["size"] != row["source_bytes"]:
        return None
    return Source(url).read(Item(row["image_id"], path, row["source_bytes"], row["source_version"], inner))


def _split(name: str) -> tuple[str, str]:
    """:meth:`Source.name` back into a file and where in it, empty for a plain file."""
    for suffix in CONTAINERS:
        outer, mark, inner = name.partition(f"{suffix}#")
        if mark:
            return outer + suffix, inner
    return name, ""


def _given(wanted: Mapping[str, Any], source: Source) -> Iterator[tuple[str, bytes]]:
    """Plain files by their name; then, for what is left, one listing, which opens tar, zip and Parquet."""
    left = set(wanted)
    for image_id in wanted:
        with suppress(Exception):
            yield image_id, source.read(source.absent(image_id))
            left.discard(image_id)
    if not left:
        return
    for item in source.items():
        if item.id in left:
            left.discard(item.id)
            yield from _read(source, item)
        if not left:
            return


def _read(source: Source, item: Item) -> Iterator[tuple[str, bytes]]:
    with suppress(Exception):
        yield item.id, source.read(item)
