"""Prompts and class labels of a source's images: from a file of them, or from beside each image.

A file: .json (an object id -> value, or a list of objects), .jsonl, .csv, .tsv or .parquet. Of a table or of objects
the id and the value are found by their names, ``IDS`` and ``VALUES``; a list of captions stands for its first. An image
is found by its id, or by the last part of it.

Beside each image: a column of the Parquet file that it is in, or a file (a member of the same tar) of the image's name
with that extension, as WebDataset keeps them: ``txt``, ``cls``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadRequest
from pipeline.sources import UNOPENED, Source, tar
from pipeline.sources.item import Item
from pipeline.stores.storage import open_fs
from psc_core.coding.condition import checked
from psc_core.errors import InvalidCondition

FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
IDS = ("image_id", "id", "file", "file_name", "filename", "image", "path", "name", "__key__")
VALUES = {
    "captions": ("caption", "captions", "text", "prompt", "description"),
    "labels": ("label", "class", "labels", "cls", "class_id"),
}


def conditioned(
    source: Source,
    captions: str | None = None,
    labels: str | None = None,
    left_out: Callable[[Item], None] = lambda file: None,
) -> Iterator[Item]:
    """The source's items, with their prompts or labels if any are given; an item may have none.

    captions, labels: a file of them, or the name of a column; left_out: see :meth:`Source.items`.

    Raises BadRequest if a file of them cannot be read, or is about none of the images.
    """
    option, given = ("labels", labels) if labels else ("captions", captions)
    items = source.items(left_out)
    if given is None:
        return items
    if _is_file(given):
        return _from_file(items, given, option)
    return _from_beside(source, items, given, option)


def identity(given: str) -> str:
    """What a fingerprint holds of a file, its sha256; or the column's name."""
    return hashlib.sha256(_bytes(given)).hexdigest() if _is_file(given) else f"column {given}"


def _is_file(given: str) -> bool:
    return os.path.splitext(given)[1].lower() in FILES


def _bytes(given: str) -> bytes:
    fs, path = open_fs(given)
    try:
        return fs.cat_file(path)
    except (FileNotFoundError, IsADirectoryError):
        raise BadRequest(f"{given}: no such file of captions or labels") from None


def _from_file(items: Iterable[Item], given: str, option: str) -> Iterator[Item]:
    values, field = _read(given, option)
    origin, found, last = f"{os.path.basename(given)}:{field}", 0, ""
    for item in items:
        value = values.get(item.id, values.get(item.id.rsplit("/", 1)[-1]))
        found += value is not None
        last = item.id
        yield _with(item, value, origin, option)
    if last and not found:
        known = next(iter(values), "nothing")
        raise BadRequest(f"--{option} {given}: about none of the images; it names {known!r}, an image's id is {last!r}")


def _with(item: Item, value: Any, origin: str, option: str) -> Item:
    """The item under a value as it was found: text, a number, a list's first."""
    value = value[0] if isinstance(value, list | tuple) and value else value
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return item
    try:
        given = checked(" ".join(str(value).split()) if option == "captions" else int(value))
    except (InvalidCondition, ValueError, TypeError) as error:
        raise BadRequest(f"--{option}: {item.id} has {value!r}: {error}") from None
    return replace(item, condition=given, origin=origin)


def _read(given: str, option: str) -> tuple[Mapping[str, Any], str]:
    """id -> value, and the name of the values' field."""
    raw, suffix = _bytes(given), os.path.splitext(given)[1].lower()
    try:
        if suffix == ".json" and isinstance(found := json.loads(raw), dict):
            return found, "value"
        if suffix in (".json", ".jsonl"):
            return _of_objects(found if suffix == ".json" else map(json.loads, raw.splitlines()), given, option)
        if suffix in (".csv", ".tsv"):  # not Arrow's reader: it makes numbers of names like 000285
            lines = csv.DictReader(io.StringIO(raw.decode("utf-8-sig")), delimiter="\t" if suffix == ".tsv" else ",")
            return _of_objects(lines, given, option)
        table = pq.read_table(io.BytesIO(raw))
    except (ValueError, TypeError, csv.Error) as error:  # Arrow's errors are ValueErrors
        raise BadRequest(f"--{option} {given} cannot be read: {error}") from None
    name, value = (_named(table.column_names, known, given, option) for known in (IDS, VALUES[option]))
    return dict(zip(map(str, table[name].to_pylist()), table[value].to_pylist(), strict=True)), value


def _of_objects(entries: Iterable[Any], given: str, option: str) -> tuple[dict[str, Any], str]:
    entries = [entry for entry in entries if isinstance(entry, dict)]
    names = list(entries[0]) if entries else []
    name, value = (_named(names, known, given, option) for known in (IDS, VALUES[option]))
    return {str(entry[name]): entry.get(value) for entry in entries if name in entry}, value


def _named(names: Iterable[str], known: tuple[str, ...], given: str, option: str) -> str:
    for name in known:
        if name in names:
            return name
    raise BadRequest(f"--{option} {given}: none of its fields is called {', '.join(known)}; it has {', '.join(names)}")


def _from_beside(source: Source, items: Iterable[Item], name: str, option: str) -> Iterator[Item]:
    """Values of the column, or extension, ``name`` beside each image."""
    fs, _ = open_fs(source.url)
    origin, found, any_item = f"column {name}", 0, False
    for item in items:
        if item.inner == UNOPENED:
            yield item
            continue
        reader = _BESIDE.get(os.path.splitext(item.path)[1].lower()) if item.inner else _beside_file
        if reader is None:
            raise BadRequest(
                f"--{option} {name}: members of {item.path} have no columns; give a file ({', '.join(FILES)})"
            )
        value = reader(fs, item, name)
        found, any_item = found + (value is not None), True
        yield _with(item, value, origin, option)
    if any_item and not found:
        raise BadRequest(f"--{option} {name}: no image has one; no such column, file beside it, or file of {option}")


def _beside_file(fs: Any, item: Item, name: str) -> Any:
    try:
        return _decoded(fs.cat_file(f"{os.path.splitext(item.path)[0]}.{name.lstrip('.')}"))
    except FileNotFoundError:
        return None


def _in_parquet(fs: Any, item: Item, name: str) -> Any:
    group, row = map(int, item.inner.split(":"))
    return _column(fs, item.path, item.version, group, name)[row].as_py()


@lru_cache(maxsize=2)
def _column(fs: Any, path: str, version: str, group: int, name: str) -> pa.ChunkedArray:
    with fs.open(path, "rb") as raw:
        parquet = pq.ParquetFile(raw)
        if name not in parquet.schema_arrow.names:
            raise BadRequest(f"{path} has no column {name!r}; it has {', '.join(parquet.schema_arrow.names)}")
        return parquet.read_row_group(group, columns=[name]).column(name)


def _in_tar(fs: Any, item: Item, name: str) -> Any:
    stem = os.path.splitext(item.id)[0]
    place = _members(fs, item.path, item.version, name.lstrip(".")).get(stem.rsplit(".tar/", 1)[-1])
    return None if place is None else _decoded(fs.cat_file(item.path, start=place[0], end=sum(place)))


@lru_cache(maxsize=2)
def _members(fs: Any, path: str, version: str, extension: str) -> dict[str, tuple[int, int]]:
    """Offset and size of the members with that extension, by their names without it."""
    found, _ = tar.members(fs, path)
    named = ((os.path.splitext(member.name), member) for member in found)
    return {stem: (member.start, member.size) for (stem, suffix), member in named if suffix == f".{extension}"}


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


_BESIDE: dict[str, Callable[[Any, Item, str], Any]] = {".parquet": _in_parquet, ".tar": _in_tar}
