"""Image ids to file names: inside the output folder whatever the id, and never twice the same."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

_LONGEST = 200


@dataclass(frozen=True)
class Names:
    """``a/b.jpg`` becomes ``a/b.png``, or ``a/b.jpg.png`` where that name would not be the image's alone.

    suffix: without its dot; shared: hashes of the names that several images would get, see :meth:`of`;
    repeated: of the ids that differ only in what a file name cannot hold. Both are small, so this travels
    to workers.
    """

    suffix: str
    shared: frozenset[int] = field(default_factory=frozenset)
    repeated: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def of(cls, ids: Iterable[str], suffix: str) -> Names:
        """Names for these ids: 16 bytes of memory each while they are compared."""
        stems, others = array("Q"), array("Q")
        for image_id in ids:
            whole = _whole(image_id)
            stems.append(name_hash(_stem(whole)))
            if _stem(whole) != whole:
                others.append(name_hash(whole))
        stem, other = np.frombuffer(stems, np.uint64), np.frombuffer(others, np.uint64)
        repeated = _twice(other)
        return cls(suffix, _twice(np.concatenate([stem, np.unique(other)])), repeated)

    def __call__(self, image_id: str) -> str:
        whole = _whole(image_id)
        stem = _stem(whole)
        if name_hash(stem) not in self.shared:
            return f"{stem}.{self.suffix}"
        if whole != stem and name_hash(whole) not in self.repeated:
            return f"{whole}.{self.suffix}"
        return f"{whole}-{hashlib.sha256(image_id.encode()).hexdigest()[:12]}.{self.suffix}"


def _whole(image_id: str) -> str:
    parts = PurePosixPath(image_id.replace("\0", "")).parts
    return "/".join(_short(p) for p in parts if p not in ("/", "//", "..", ".")) or "image"


def _stem(whole: str) -> str:
    return os.path.splitext(whole)[0]


def _short(part: str) -> str:
    if len(part.encode()) <= _LONGEST:
        return part
    return part[:40] + hashlib.sha256(part.encode()).hexdigest()[:16] + os.path.splitext(part)[1][:20]


def name_hash(text: str) -> int:
    """64 bits of a name, to hold many of them."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _twice(values: np.ndarray) -> frozenset[int]:
    ordered = np.sort(values)
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
