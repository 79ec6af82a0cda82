"""The two headers: what all streams of a dataset share, and the few bytes that are an image's own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from binascii import crc_hqx
from dataclasses import dataclass

from psc_core.coding import condition as conditions
from psc_core.coding.condition import Condition
from psc_core.coding.varint import Reader, text, varint
from psc_core.errors import CorruptStream, CutStream, NotAStream, PscError, UnknownVersion
from psc_core.profiles import Profile, get_profile

MAGIC = b"\x89PSC"
VERSION = 2
"""The newest format that is read. A stream says the oldest one that has all it needs: see :func:`version_for`."""
MAX_SIDE = 1 << 20
ARITHMETICS = ("exact", "float")


@dataclass(frozen=True, kw_only=True)
class SharedHeader:
    """What one dataset's streams have in common: all that decides which pixels the bytes mean."""

    profile: Profile
    prior_name: str
    prior_fingerprint: str
    """First 128 bits, in hex, of the sha256 over the prior's weights and configuration as used."""
    arithmetic: str = "exact"
    environment: str = ""
    """Float arithmetic only: the machine and library on which the stream was made."""
    seed: int = 0
    version: int = 1

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over every field."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        fields = dataclasses.asdict(self) | {"profile": {"name": self.profile.name, **self.profile.overrides()}}
        return json.dumps(fields | {"profile_digest": self.profile.digest}, sort_keys=True)

    @classmethod
    def from_json(cls, raw: str) -> SharedHeader:
        """Inverse of :meth:`to_json`. Raises :class:`CorruptStream` or :class:`UnknownVersion`."""
        try:
            fields = json.loads(raw)
            digest, about = fields.pop("profile_digest"), dict(fields.pop("profile"))
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise CorruptStream(f"not a stream header: profile_digest is {digest!r}")
            profile = _profile(about.pop("name"), about, digest)
            header = cls(profile=profile, **fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptStream(f"not a stream header: {error}") from None
        _check_fields(header)
        return header

    def to_bytes(self) -> bytes:
        """The form that a standalone file begins with."""
        overrides = self.profile.overrides()
        body = b"".join(
            (
                text(self.profile.name),
                text(json.dumps(overrides, separators=(",", ":"), sort_keys=True) if overrides else ""),
                bytes.fromhex(self.profile.digest)[:4],
                text(self.prior_name),
                bytes.fromhex(self.prior_fingerprint),
                bytes([ARITHMETICS.index(self.arithmetic)]),
                text(self.environment),
                varint(self.seed),
            )
        )
        head = MAGIC + bytes([self.version]) + varint(len(body)) + body
        return head + _crc(head)

    @classmethod
    def read(cls, reader: Reader) -> SharedHeader:
        """Read what :meth:`to_bytes` wrote, in an order in which each failure has its own error."""
        start = reader.position
        seen = reader.data[start : start + len(MAGIC)]
        if seen != MAGIC[: len(seen)]:
            raise NotAStream(f"the first bytes are {seen!r}; a .psc file begins with {MAGIC!r}")
        reader.take(len(MAGIC), "the magic bytes")
        version = reader.take(1, "the format version")[0]
        if not 0 < version <= VERSION:
            raise UnknownVersion(_newer(version))
        body = reader.take(reader.varint("the header's length"), "the header")
        checked = reader.data[start : reader.position]
        if reader.take(2, "the header's checksum") != _crc(checked):
            raise CorruptStream("the file header's checksum does not match: its bytes were changed")
        return cls._parse(Reader(body), version)

    @classmethod
    def _parse(cls, body: Reader, version: int) -> SharedHeader:
        name = body.text("the profile's name")
        overrides = body.text("the profile's fields")
        digest = body.take(4, "the profile's digest").hex()
        try:
            profile = _profile(name, json.loads(overrides or "{}"), digest)
        except (ValueError, TypeError, RecursionError) as error:
            raise CorruptStream(f"the profile's fields are not readable: {error}") from None
        header = cls(
            version=version,
            profile=profile,
            prior_name=body.text("the prior's name"),
            prior_fingerprint=body.take(16, "the prior's fingerprint").hex(),
            arithmetic=_arithmetic(body.take(1, "the arithmetic")[0]),
            environment=body.text("the environment"),
            seed=body.varint("the seed"),
        )
        if body.left:
            raise CorruptStream(f"{body.left} bytes too many in the file header, after the seed")
        return header


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Height and width in pixels, 1 (grey) or 3 (colour) channels, and the prompt or class label if there is one.

    The first byte holds the channels and, in its upper half, the condition's form.
    """

    height: int
    width: int
    channels: int
    condition: Condition = None

    def to_bytes(self) -> bytes:
        form, packed = conditions.pack(self.condition)
        head = bytes([self.channels | form << 4]) + varint(self.height) + varint(self.width) + packed
        return head + _crc8(head)

    @classmethod
    def read(cls, reader: Reader, version: int = VERSION) -> ImageHeader:
        """Read what :meth:`to_bytes` wrote, in a stream of that format version."""
        start = reader.position
        first = reader.take(1, "the image header")[0]
        form, channels = first >> 4, first & 15
        if form > (conditions.DEFLATED if version > 1 else conditions.NONE):
            raise CorruptStream(f"impossible image header: a condition of form {form} in format version {version}")
        height, width = reader.varint("the height"), reader.varint("the width")
        condition = conditions.unpack(form, reader)
        checked = reader.data[start : reader.position]
        if reader.take(1, "the image header's checksum") != _crc8(checked):
            raise CorruptStream("the image header's checksum does not match: its bytes were changed")
        if channels not in (1, 3) or not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise CorruptStream(f"impossible image header: {height}x{width} with {channels} channels")
        return cls(height=height, width=width, channels=channels, condition=condition)

    @classmethod
    def from_bytes(cls, data: bytes, version: int = VERSION) -> ImageHeader:
        reader = Reader(data)
        header = cls.read(reader, version)
        if reader.left:
            raise CorruptStream(f"{reader.left} bytes too many in an image header")
        return header


def version_for(condition_kind: str | None) -> int:
    """The format of streams of a prior that takes conditions of that kind; 1 had no place for them."""
    return 1 if condition_kind is None else 2


def _profile(name: str, fields: dict, digest: str) -> Profile:
    try:
        profile = get_profile(name, **fields)
    except (CorruptStream, CutStream):
        raise
    except PscError as error:
        raise UnknownVersion(f"the stream's profile cannot be read by this version: {error}") from None
    if not profile.digest.startswith(digest):
        raise UnknownVersion(
            f"profile {name!r} means something else here than where the stream was written: update this software"
        )
    return profile


def _arithmetic(index: int) -> str:
    if index >= len(ARITHMETICS):
        raise UnknownVersion(f"arithmetic number {index} is not known to this version: update this software")
    return ARITHMETICS[index]


def _crc(data: bytes) -> bytes:
    return crc_hqx(data, 0xFFFF).to_bytes(2, "little")


def _crc8(data: bytes) -> bytes:
    """CRC-8 (x^8 + x^2 + x + 1): finds every change of one byte, which one half of a CRC-16 does not."""
    rest = 0xFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = (rest << 1 ^ 0x07) & 0xFF if rest & 0x80 else rest << 1
    return bytes([rest])


def _check_fields(header: SharedHeader) -> None:
    """What JSON may hold in a header's place and the binary form cannot."""
    if type(header.version) is int and header.version > VERSION:
        raise UnknownVersion(_newer(header.version))
    possible = {
        "version": type(header.version) is int and 0 < header.version <= VERSION,
        "prior_name": isinstance(header.prior_name, str),
        "prior_fingerprint": re.fullmatch("[0-9a-f]{32}", str(header.prior_fingerprint)) is not None,
        "arithmetic": header.arithmetic in ARITHMETICS,
        "environment": isinstance(header.environment, str),
        "seed": type(header.seed) is int and 0 <= header.seed < 1 << 63,
    }
    for name, is_possible in possible.items():
        if not is_possible:
            raise CorruptStream(f"not a stream header: {name} is {getattr(header, name)!r}")


def _newer(version: int) -> str:
    return f"format version {version}; this software reads versions 1 to {VERSION}: update it"
