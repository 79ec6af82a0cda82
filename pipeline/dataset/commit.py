"""The commit of a shard: exactly one part, exactly one marker, whatever is killed and whoever else is
writing.

Layout of a dataset::

    DATASET/part-00007.parquet        a part: immutable, whole, one a shard
    DATASET/_psc/plan.json            the frozen plan, created once
    DATASET/_psc/items-….parquet      its items
    DATASET/_psc/commits/00007.json   the marker of shard 7: readers of this project trust markers only
    DATASET/_psc/spool/               files in the making (local targets only), never named ``*.parquet``

A part is written locally, read back, and then created under its shard's own name, exclusively and
atomically; then its marker is created likewise. House design asks for an attempt-unique name at the upload.
It is the exclusive creation under one name instead, because plain readers
(``read_parquet('DATASET/*.parquet')``) know nothing of markers, and object stores cannot rename: with
unique names the leftovers of a killed attempt, or of a second driver, would show up there as duplicated
rows. This way no name in sight ever holds half a part or a second one, and a kill between part and marker
loses nothing either: whoever comes next finds a whole part of the same plan, checks it, and writes its
marker. Where a store lets two creations through that race within milliseconds (OpenStack Swift does), both
wrote the same bytes, since encoding is exact. Only :mod:`pipeline.retry` ever replaces a part.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.dataset.parts import check_part, describe_part, file_sha256
from pipeline.errors import CorruptPart
from pipeline.stores.storage import Folder

COMMITS = "_psc/commits"
_MARKER = re.compile(r"([0-9]{5,})\.json")
_FIELDS: dict[str, type] = {
    **dict.fromkeys(("shard", "file_bytes", "rows", "pixels", "bytes", "nfe"), int),
    **dict.fromkeys(("part", "fingerprint", "sha256"), str),
    **dict.fromkeys(("tier_bytes", "tier_images", "tier_psnr_sum", "tier_psnr_images"), list),
    **dict.fromkeys(("status", "figures"), dict),
}


def part_name(shard: int) -> str:
    return f"part-{shard:05d}.parquet"


def marker_name(shard: int) -> str:
    return f"{COMMITS}/{shard:05d}.json"


def open_part(folder: Folder, shard: int) -> pq.ParquetFile:
    """A committed part's file, read in as few and as small ranges as the columns allow."""
    source = folder.full(part_name(shard)) if folder.is_local else folder.open(part_name(shard))
    return pq.ParquetFile(source, pre_buffer=True)


def shard_of(name: str) -> int | None:
    """The shard whose marker has this file name. None for what others leave beside them, as macOS its ``._…``."""
    found = _MARKER.fullmatch(name)
    return int(found[1]) if found and marker_name(int(found[1])) == f"{COMMITS}/{name}" else None


def committed_shards(folder: Folder) -> list[int]:
    """Shards with a marker, ascending: one listing."""
    return sorted(shard for name in folder.names(COMMITS) if (shard := shard_of(name)) is not None)


def read_marker(folder: Folder, shard: int) -> dict[str, Any] | None:
    """The marker of a shard, or None if it is not committed. Raises :class:`CorruptPart` if it is damaged."""
    try:
        return _parsed(folder, shard, folder.read(marker_name(shard)))
    except FileNotFoundError:
        return None


def read_markers(folder: Folder, shards: list[int]) -> list[dict[str, Any]]:
    """Markers of many shards, in their order. Raises :class:`CorruptPart` if one is damaged."""
    found = folder.read_many([marker_name(s) for s in shards])
    return [_parsed(folder, s, found[marker_name(s)]) for s in shards]


def _parsed(folder: Folder, shard: int, data: bytes) -> dict[str, Any]:
    try:
        marker = json.loads(data)
    except ValueError:
        marker = None
    if isinstance(marker, dict):
        whole = all(isinstance(marker.get(name), kind) for name, kind in _FIELDS.items())
        if whole and (marker["shard"], marker["part"]) == (shard, part_name(shard)):
            return marker
    raise CorruptPart(
        f"{folder.full(marker_name(shard))} is not the marker of shard {shard} ({len(data)} bytes): remove it, and the "
        "command that made the dataset, with --resume, checks that part and writes its marker again"
    )


def adopt(folder: Folder, shard: int, *, fingerprint: str, rows: int | None, tiers: int) -> dict[str, Any] | None:
    """The marker of a shard that someone finished, written now if only that was missing. None if there is
    no part.

    Raises:
        CorruptPart: the part's name is taken by something else.
    """
    marker = read_marker(folder, shard)
    if marker is not None:
        return marker
    if not folder.exists(part_name(shard)):
        return None
    with folder.open(part_name(shard)) as file:
        try:
            check_part(file, fingerprint=fingerprint, shard=shard, rows=rows)
        except CorruptPart as error:
            raise CorruptPart(f"{error}; it is in the way: move {folder.full(part_name(shard))} elsewhere") from None
    return _mark(folder, _described(folder, shard, fingerprint, tiers, {}))


def commit(
    folder: Folder,
    local: Path,
    shard: int,
    *,
    fingerprint: str,
    rows: int | None,
    tiers: int,
    figures: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Publish a finished local part and return the shard's marker: one's own, or that of whoever came first.

    ``figures`` (seconds, attempt and the like) are the marker's only content that may differ between two equal runs.
    """
    check_part(local, fingerprint=fingerprint, shard=shard, rows=rows)
    # The local file may be gone once it is published.
    marker = _described(folder, shard, fingerprint, tiers, figures or {}, local)
    if not folder.create_from(part_name(shard), local):
        theirs = adopt(folder, shard, fingerprint=fingerprint, rows=rows, tiers=tiers)
        if theirs is not None:
            return theirs
        raise CorruptPart(f"part of shard {shard} was there, and is gone: someone deletes files in {folder.url}")
    if folder.size(part_name(shard)) != marker["file_bytes"]:
        raise CorruptPart(f"part of shard {shard} did not arrive whole in {folder.url}")
    return _mark(folder, marker)


def recommit(
    folder: Folder, local: Path, shard: int, *, fingerprint: str, rows: int, tiers: int, figures: dict[str, Any]
) -> dict[str, Any]:
    """Replace a committed part by a finished local one, and its marker: the new marker.

    Of two at once one part stays, whole, and each leaves a marker of the part that it found there last.
    """
    check_part(local, fingerprint=fingerprint, shard=shard, rows=rows)
    folder.replace_from(part_name(shard), local)
    while True:
        marker = _described(folder, shard, fingerprint, tiers, figures)
        folder.put(marker_name(shard), json.dumps(marker, sort_keys=True).encode())
        with folder.open(part_name(shard)) as file:
            if file_sha256(file) == marker["sha256"]:
                return marker


def _mark(folder: Folder, marker: dict[str, Any]) -> dict[str, Any]:
    """Create a marker: itself, or that of whoever came first."""
    shard = marker["shard"]
    if folder.create(marker_name(shard), json.dumps(marker, sort_keys=True).encode()):
        return marker
    return read_marker(folder, shard) or marker


def _described(
    folder: Folder,
    shard: int,
    fingerprint: str,
    tiers: int,
    figures: dict[str, Any],
    local: Path | None = None,
) -> dict[str, Any]:
    """What a marker says of the part in place, or of the local file that it is a copy of."""
    with open(local, "rb") if local else folder.open(part_name(shard)) as file:
        marker = {
            "shard": shard,
            "part": part_name(shard),
            "fingerprint": fingerprint,
            "sha256": file_sha256(file),
            "file_bytes": file.tell(),
        }
        file.seek(0)
        return marker | describe_part(file, tiers) | {"figures": figures}
