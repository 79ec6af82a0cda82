"""Verify: is every committed byte still what its marker and its own checksums say?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psc_core
from pipeline.codec import Codec
from pipeline.dataset.commit import committed_shards, marker_name, part_name, read_marker
from pipeline.dataset.parts import check_part, file_sha256
from pipeline.dataset.plan import check_items
from pipeline.dataset.reader import Dataset
from pipeline.errors import CorruptPart
from pipeline.request import Request

_SHOWN = 100
_PLAIN = "plain readers (read_parquet('*.parquet')) read it all the same"
_UNMARKED = f"has no marker, and {_PLAIN}: the job that is running, or --resume, checks it and writes one"
_STRAY = f"belongs to no shard of the plan, and {_PLAIN}: move it elsewhere"
_AGAIN = "remove {}, and the command that made the dataset, with --resume, makes that shard again"


@dataclass
class Audit:
    """Outcome of a verification. ``problems`` holds the first of them, ``found`` how many there are."""

    dataset: str
    complete: bool
    parts: int = 0
    rows: int = 0
    streams: int = 0
    decoded: int = 0
    found: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 0 if self.complete and not self.found else 1

    def add(self, where: str, error: Exception) -> None:
        self.found += 1
        if len(self.problems) < _SHOWN:
            code = getattr(error, "code", type(error).__name__)
            self.problems.append({"where": where, "code": code, "error": str(error)})

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "seconds": round(self.seconds, 3)}


def verify(
    dataset: str,
    *,
    deep: int = 0,
    prior: str | None = None,
    codec: Codec | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """Check every part against its marker, every stream against its checksums, and the files beside them.

    deep: how many images to decode as well, spread by the hash of their ids; decoding compares the state of
    the decoder with the encoder's. progress: told how many parts and images were checked, and are to be in all.
    Raises :class:`NotADataset`.
    """
    began = time.monotonic()
    opened = Dataset.open(dataset)
    audit = Audit(dataset, opened.complete)
    sample: list[tuple[str, str, psc_core.Stream]] = []
    shards = opened.shards
    progress(0, len(shards))
    for shard in shards:
        audit.parts += 1
        if _is_committed(opened, shard, audit):
            sample = _check_streams(opened, shard, audit, sample, deep)
        progress(audit.parts, len(shards) + len(sample))
    _check_folder(opened, audit)
    if sample:
        for done in _decode(opened, audit, sample, prior, codec or Codec()):
            progress(audit.parts + done, audit.parts + len(sample))
    audit.seconds = time.monotonic() - began
    return audit


def _is_committed(opened: Dataset, shard: int, audit: Audit) -> bool:
    """Whether a shard's marker, and its part by that, are what was committed."""
    where = marker_name(shard)
    try:
        marker = read_marker(opened.folder, shard)
        if marker is None:
            raise CorruptPart(f"the marker of shard {shard} is gone since the listing: verify again")
        _check_marker(opened, marker)
        where = part_name(shard)
        try:
            _check_file(opened, marker)
        except FileNotFoundError:
            raise CorruptPart(f"the part is gone; {_AGAIN.format(marker_name(shard))}") from None
        except CorruptPart as error:
            both = f"{part_name(shard)} and {marker_name(shard)}"
            raise CorruptPart(f"{error}; {_AGAIN.format(both)}") from None
    except (CorruptPart, OSError) as error:
        audit.add(where, error)
        return False
    return True


def _check_marker(opened: Dataset, marker: dict[str, Any]) -> None:
    shard = marker["shard"]
    if marker["fingerprint"] != opened.plan.fingerprint or shard >= opened.plan.shards:
        raise CorruptPart(f"the marker of shard {shard} is of another plan: move it and {marker['part']} elsewhere")


def _check_file(opened: Dataset, marker: dict[str, Any]) -> None:
    shard = marker["shard"]
    with opened.folder.open(part_name(shard)) as file:
        check_part(file, fingerprint=opened.plan.fingerprint, shard=shard, rows=marker["rows"])
        file.seek(0)
        if file_sha256(file) != marker["sha256"]:
            raise CorruptPart("not the file that was committed: its sha256 differs")


def _check_folder(opened: Dataset, audit: Audit) -> None:
    """Look at what no marker vouches for: the list of inputs, and Parquet files that plain readers take for parts."""
    try:
        check_items(opened.folder, opened.plan)
    except (CorruptPart, OSError) as error:
        audit.add(opened.plan.items_file, error)
    there = [name for name in opened.folder.names() if name.endswith(".parquet")]
    # A part comes before its marker: of those made meanwhile, this later listing has the markers.
    marked = {part_name(shard) for shard in committed_shards(opened.folder)}
    planned = {part_name(shard) for shard in range(opened.plan.shards)}
    for name in there:
        if name not in marked:
            audit.add(name, CorruptPart(f"{name} {_UNMARKED if name in planned else _STRAY}"))


def _check_streams(
    opened: Dataset, shard: int, audit: Audit, sample: list[tuple[str, str, psc_core.Stream]], deep: int
) -> list[tuple[str, str, psc_core.Stream]]:
    """Check one part's streams; the ``deep`` images of smallest hash so far."""
    one = Dataset(opened.folder, opened.plan, (shard,))
    audit.rows += sum(len(b) for b in one.batches(["status"]))
    for image_id, stream in one.streams():
        audit.streams += 1
        if isinstance(stream, Exception):
            audit.add(image_id, stream)
        elif deep and stream.tiers:
            sample.append((hashlib.sha256(image_id.encode()).hexdigest(), image_id, stream))
    return sorted(sample, key=lambda entry: entry[:2])[:deep]


def _decode(
    opened: Dataset,
    audit: Audit,
    sample: list[tuple[str, str, psc_core.Stream]],
    prior: str | None,
    codec: Codec,
) -> Iterator[int]:
    """Decode the sample; yields how many of it were, one by one."""
    loaded = codec.load(Request.of_streams(opened.shared, prior=prior, loaded_from=opened.plan.prior))
    for done, (_, image_id, stream) in enumerate(sample, 1):
        try:
            pixels = codec.decode([stream], loaded, tier=None, restore="mean")[0]
            if pixels.shape != (stream.height, stream.width, stream.channels):
                raise CorruptPart(f"decodes to {pixels.shape}")
            audit.decoded += 1
        except psc_core.PscError as error:
            audit.add(image_id, error)
        yield done
