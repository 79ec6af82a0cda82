"""Where decoded pictures go: files, or rows of Parquet."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.stores.names import Names
from pipeline.stores.storage import Folder

FORMATS: dict[str, dict[str, Any]] = {
    "png": {},
    "webp": {"lossless": True},
    "jpg": {"quality": 95, "subsampling": 0},
}
PARQUET = "parquet"
_PART = re.compile(r"pictures-(\d{5,})\.parquet")
_GROUP_BYTES = 64 * 1024 * 1024
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        # As Hugging Face datasets and psc compress read it.
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)


class Pictures(Protocol):
    """Takes the pictures of one part. ``close`` publishes what is not yet; ``discard`` drops it."""

    def add(self, image_id: str, pixels: np.ndarray) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


def picture(pixels: np.ndarray, format: str = "png") -> bytes:
    """uint8 (H, W, 1 or 3) as an image file of one of ``FORMATS``."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, "JPEG" if format == "jpg" else format.upper(), **FORMATS[format])
    return file.getvalue()


class Files:
    """One file a picture, whole or not there."""

    def __init__(self, out: Folder, names: Names, format: str) -> None:
        self._out, self._names, self._format = out, names, format

    def add(self, image_id: str, pixels: np.ndarray) -> None:
        self._out.put(self._names(image_id), picture(pixels, self._format))

    def close(self) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        """What is written stays: it is right, and ``resume`` takes it as it is."""


class ParquetPart:
    """One Parquet file of PNGs a part, row groups bounded in bytes; it appears whole, at its close."""

    def __init__(self, out: Folder, names: Names, shard: int) -> None:
        self._out, self._names, self._name = out, names, part_of(shard)
        self._scratch = tempfile.TemporaryDirectory(prefix="psc-")
        self._local = Path(self._scratch.name) / self._name
        self._writer = pq.ParquetWriter(self._local, _SCHEMA, compression="none", use_dictionary=False)
        self._rows: list[dict[str, Any]] = []
        self._held = 0

    def add(self, image_id: str, pixels: np.ndarray) -> None:
        data = picture(pixels)
        image = {"bytes": data, "path": self._names(image_id)}
        self._rows.append({"image_id": image_id, "width": pixels.shape[1], "height": pixels.shape[0], "image": image})
        self._held += len(data)
        if self._held >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        self._out.put_from(self._name, self._local)
        self._scratch.cleanup()

    def discard(self) -> None:
        self._writer.close()
        self._scratch.cleanup()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
        self._rows, self._held = [], 0


def pictures(out: Folder, names: Names, format: str, shard: int) -> Pictures:
    """The place for one part's pictures."""
    return ParquetPart(out, names, shard) if format == PARQUET else Files(out, names, format)


def part_of(shard: int) -> str:
    """The name of a shard's rows: one that no dataset has."""
    return f"pictures-{shard:05d}.parquet"


def parts_in(folder: Folder) -> dict[int, str]:
    """Names of the parts of pictures that are in a folder, by shard: one listing."""
    found = ((_PART.fullmatch(name), name) for name in folder.names())
    return {int(match[1]): name for match, name in found if match}


def finished(folder: Folder, shards: Mapping[int, int]) -> dict[int, int]:
    """Of these shards, with so many pictures each, those whose part is there and holds them all. Reads footers."""

    def rows(name: str) -> int:
        with folder.open(name) as file:
            return pq.ParquetFile(file).metadata.num_rows

    there = {shard: name for shard, name in parts_in(folder).items() if shard in shards}
    return {shard: shards[shard] for shard, name in there.items() if rows(name) == shards[shard]}


def suffix_of(format: str) -> str:
    """The suffix of a picture's name."""
    return "png" if format == PARQUET else format
