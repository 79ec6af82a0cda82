"""Verify: is every committed byte still what its marker and its own checksums say?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psc_core
from pipeline.codec import Codec
from pipeline.commit import part_name
from pipeline.dataset import Dataset
from pipeline.errors import CorruptPart
from pipeline.parts import check_part, file_sha256
from pipeline.request import Request

_SHOWN = 100


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
    """Check every part against its marker and every stream against its checksums.

    deep: how many images to decode as well, spread by the hash of their ids; decoding compares the state of
    the decoder with the encoder's. progress: told how many parts and images were checked, and are to be in all.
    Raises :class:`NotADataset`.
    """
    began = time.monotonic()
    opened = Dataset.open(dataset)
    audit = Audit(dataset, opened.complete)
    sample: list[tuple[str, str, psc_core.Stream]] = []
    markers = opened.markers
    progress(0, len(markers))
    for marker in markers:
        audit.parts += 1
        try:
            _check_file(opened, marker)
        except (CorruptPart, OSError) as error:
            audit.add(marker["part"], error)
        else:
            sample = _check_streams(opened, marker["shard"], audit, sample, deep)
        progress(audit.parts, len(markers) + len(sample))
    if sample:
        for done in _decode(opened, audit, sample, prior, codec or Codec()):
            progress(audit.parts + done, audit.parts + len(sample))
    audit.seconds = time.monotonic() - began
    return audit


def _check_file(opened: Dataset, marker: dict[str, Any]) -> None:
    shard = marker["shard"]
    if marker["fingerprint"] != opened.plan.fingerprint:
        raise CorruptPart(f"the marker of shard {shard} belongs to another plan")
    with opened.folder.open(part_name(shard)) as file:
        check_part(file, fingerprint=opened.plan.fingerprint, shard=shard, rows=marker["rows"])
        file.seek(0)
        if file_sha256(file) != marker["sha256"]:
            raise CorruptPart(f"{marker['part']} is not the file that was committed: its sha256 differs")


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
