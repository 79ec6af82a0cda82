"""Members of a zip file, each read by its own byte range."""

from __future__ import annotations

import io
import struct
import zipfile
from bisect import bisect_right
from typing import Any

from pipeline.errors import CannotUnpack, InputChanged
from pipeline.sources.container import Contents, is_sidecar, open_at_places
from pipeline.sources.item import Item, as_text, numbered

_HEADER = struct.Struct("<4s5H3I2H")
"""A local file header up to its name (APPNOTE 4.3.7): signature, version, flags, method, time, date, CRC-32, packed
and unpacked size, bytes of the name and of the extra field."""
_MOST = _HEADER.size + 2 * 0xFFFF
_ENCRYPTED, _LATER, _PATCH, _STRONG = 0x01, 0x08, 0x20, 0x40
"""Flags; ``_LATER``: CRC and sizes come after the data."""


def expand(fs: Any, file: Item) -> Contents:
    """The zip's files, ascending by name; ``inner`` is ``offset+length+packed+method:name``: the range from the
    local header to the next one, and what the directory says of the data in it.
    """
    try:
        with open_at_places(fs, file.path) as raw, zipfile.ZipFile(raw) as archive:
            directory, end = archive.infolist(), archive.start_dir
    # What is in a damaged directory may also be no number, or no text.
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, EOFError, OverflowError) as damage:
        return Contents((), CannotUnpack(f"{file.path}: not a zip file ({damage})"))
    ends = sorted({*(member.header_offset for member in directory), end})
    members = [member for member in directory if not member.is_dir() and not is_sidecar(member.filename)]
    names = numbered([f"{file.id}/{as_text(member.filename)}" for member in members])
    items = [
        Item(name, file.path, member.file_size, f"{member.CRC:08x}", _inner(member, ends))
        for name, member in zip(names, members, strict=True)
    ]
    return Contents(sorted(items, key=lambda item: item.id))


def read(fs: Any, item: Item) -> bytes:
    """The member's bytes, of the CRC-32 that was planned.

    Raises:
        InputChanged: the zip has another member there now.
        CannotUnpack: it is damaged, encrypted, or packed by a method that is not known here.
    """
    place, _, name = item.inner.partition(":")
    if "+" not in place:
        return _by_number(fs, item, int(place))
    start, length, packed, method = map(int, place.split("+"))
    if packed > 2 * item.size + _MOST:
        raise CannotUnpack(f"{name}: {packed} bytes packed, of {item.size} that it should have")
    return _unpacked(fs.cat_file(item.path, start=start, end=start + length), item, name, packed, method)


def _inner(member: zipfile.ZipInfo, ends: list[int]) -> str:
    start, packed = member.header_offset, member.compress_size
    following = bisect_right(ends, start)
    gap = ends[following] - start if following < len(ends) else 0
    # Up to the next header in one reading: how long this one is, only it says itself.
    return f"{start}+{min(gap, _MOST + packed)}+{packed}+{member.compress_type}:{as_text(member.filename)}"


def _unpacked(raw: bytes, item: Item, name: str, packed: int, method: int) -> bytes:
    """The data behind a local header."""
    crc = int(item.version, 16)
    header = _HEADER.unpack(raw[: _HEADER.size].ljust(_HEADER.size, b"\0"))
    signature, _, flags, its_method, _, _, its_crc, _, _, name_size, extra_size = header
    if signature != b"PK\3\4" or its_method != method or (its_crc != crc and not flags & _LATER):
        raise InputChanged(f"{item.path} does not have {name} where it was when it was planned")
    if flags & (_ENCRYPTED | _STRONG | _PATCH):
        raise CannotUnpack(f"{name} is {'a patch' if flags & _PATCH else 'encrypted: store it without a password'}")
    known = zipfile.ZipInfo(name)
    known.compress_type, known.compress_size, known.file_size, known.CRC = method, packed, item.size, crc
    data = io.BytesIO(raw[_HEADER.size + name_size + extra_size :])
    try:
        # One byte more than declared: what is longer fails its CRC.
        return zipfile.ZipExtFile(data, "r", known).read(item.size + 1)
    # Every method has its own errors.
    except Exception as error:
        raise CannotUnpack(f"{name} does not unpack (method {method}): {type(error).__name__}: {error}") from None


def _by_number(fs: Any, item: Item, number: int) -> bytes:
    """A member by its number in the directory, as plans from before byte ranges have it."""
    try:
        with open_at_places(fs, item.path) as raw, zipfile.ZipFile(raw) as archive:
            member = archive.infolist()[number]
            if f"{member.CRC:08x}" != item.version:
                raise InputChanged(f"{item.path} has another member {number} than was planned")
            with archive.open(member) as file:
                return file.read(member.file_size + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise CannotUnpack(f"{item.inner} does not unpack: {error}") from None
    except IndexError:
        raise InputChanged(f"{item.path} has fewer members than were planned") from None
