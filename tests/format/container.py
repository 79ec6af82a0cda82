"""Section 1: a stream's bytes, taken apart."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,'-\"!?:;()"


class Bad(Exception):
    """The bytes are not what the format says."""


@dataclass
class Bytes:
    """A place in some bytes."""

    data: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Bad("the bytes end early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift >= 63:
                raise Bad("a number of more than 63 bits")

    def text(self) -> str:
        return self.take(self.varint()).decode()


def varint(value: int) -> bytes:
    out = []
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def crc16(data: bytes, start: int = 0xFFFF) -> int:
    rest = start
    for byte in data:
        rest ^= byte << 8
        for _ in range(8):
            rest = (rest << 1 ^ 0x1021 if rest & 0x8000 else rest << 1) & 0xFFFF
    return rest


def crc8(data: bytes) -> int:
    rest = 0xFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = (rest << 1 ^ 0x07 if rest & 0x80 else rest << 1) & 0xFF
    return rest


@dataclass
class Stream:
    """``tiers[k]`` is a list of (payload, state), canvas by canvas."""

    version: int
    profile: dict[str, Any]
    prior_name: str
    prior_fingerprint: str
    arithmetic: int
    environment: str
    seed: int
    channels: int
    height: int
    width: int
    condition: str | int | None
    canvases: list[tuple[int, int, int, int]]
    tiers: list[list[tuple[bytes, int]]] = field(default_factory=list)


def digest(profile: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()


def parse(data: bytes, profiles: dict[str, dict[str, Any]], *, cut: bool = False) -> Stream:
    """``profiles``: fields by name, from the tables; ``cut``: read what breaks off up to its last whole chunk."""
    source = Bytes(data)
    shared = _shared(source, profiles)
    image = _image(source, shared["version"])
    limit = shared["profile"]["canvas"]
    canvases = [
        (top, left, bottom - top, right - left)
        for top, bottom in cuts(image["height"], limit)
        for left, right in cuts(image["width"], limit)
    ]
    stream = Stream(**shared, **image, canvases=canvases)
    while source.at < len(data):
        if len(stream.tiers) == shared["profile"]["tiers"]:
            raise Bad("bytes after the last tier")
        groups = shared["profile"]["steps"] if shared["profile"]["codec"] == "diffc" else 1
        chunks = _tier(source, len(stream.tiers), groups * len(canvases), cut)
        if chunks:
            stream.tiers.append(chunks)
    return stream


def _shared(source: Bytes, profiles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if source.take(4) != bytes.fromhex("89505343"):
        raise Bad("no stream")
    version = source.take(1)[0]
    if version not in (1, 2):
        raise Bad(f"version {version}")
    body = Bytes(source.take(source.varint()))
    if crc16(source.data[: source.at]) != int.from_bytes(source.take(2), "little"):
        raise Bad("checksum of the shared header")
    profile = dict(profiles[body.text()])
    overrides = body.text()
    changed = json.loads(overrides) if overrides else {}
    if {"name", "codec", "revision"} & set(changed):
        raise Bad("overrides that are no fields of a profile")
    profile |= changed
    if not digest(profile).startswith(body.take(4).hex()):
        raise Bad("another profile")
    shared = {
        "version": version,
        "profile": profile,
        "prior_name": body.text(),
        "prior_fingerprint": body.take(16).hex(),
        "arithmetic": body.take(1)[0],
        "environment": body.text(),
        "seed": body.varint(),
    }
    if body.at < len(body.data):
        raise Bad("the shared header has more than its fields")
    return shared


def _image(source: Bytes, version: int) -> dict[str, Any]:
    start = source.at
    first = source.take(1)[0]
    image: dict[str, Any] = {"channels": first & 15, "height": source.varint(), "width": source.varint()}
    image["condition"] = _condition(source, first >> 4)
    if crc8(source.data[start : source.at]) != source.take(1)[0]:
        raise Bad("checksum of the image header")
    if image["channels"] not in (1, 3) or (version == 1 and first >> 4):
        raise Bad("impossible image header")
    return image


def _condition(source: Bytes, form: int) -> str | int | None:
    if form == 0:
        return None
    if form == 1:
        return source.varint()
    if form == 2:
        count = source.varint()
        bits = int.from_bytes(source.take((6 * count + 7) // 8), "little")
        return "".join(ALPHABET[bits >> 6 * place & 63] for place in range(count))
    if form == 3:
        return source.text()
    if form == 4:
        return zlib.decompress(source.take(source.varint()), -15).decode()
    raise Bad(f"condition of form {form}")


def cuts(length: int, limit: int) -> list[tuple[int, int]]:
    """Section 1.3, of one side."""
    count = -(-length // limit)
    unit = next((u for u in (32, 16) if limit % u == 0), 1)
    size = -(-length // (count * unit)) * unit
    borders = [min(i * size, length) for i in range(count)] + [length]
    return list(pairwise(borders))


def _tier(source: Bytes, tier: int, count: int, cut: bool) -> list[tuple[bytes, int]]:
    chunks: list[tuple[bytes, int]] = []
    while len(chunks) < count and source.at < len(source.data):
        start = source.at
        try:
            length = source.varint()
            checksum, body = source.take(2), source.take(2 + length)
        except Bad:
            if not cut:
                raise
            source.at = len(source.data)
            break
        where = b"".join(map(varint, (tier, len(chunks), length + 2)))
        if crc16(body, crc16(where)) != int.from_bytes(checksum, "little"):
            raise Bad(f"checksum of the chunk at byte {start}")
        chunks.append((body[2:], int.from_bytes(body[:2], "little")))
    return chunks
