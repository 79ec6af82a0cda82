"""Zip members are read by their own range, and are the planned bytes or a typed error."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import replace

import fsspec
import pytest

from pipeline.errors import CannotUnpack, InputChanged
from pipeline.sources import Source
from pipeline.workers.rows import load_input
from tests.pipeline.fake import paper

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class Counting:
    """A file system that counts the bytes that are asked of it."""

    def __init__(self, fs):
        self._fs, self.asked, self.opened = fs, [], 0

    def cat_file(self, path, start=None, end=None):
        self.asked.append(end - start)
        return self._fs.cat_file(path, start=start, end=end)

    def open(self, *args, **options):
        self.opened += 1
        return self._fs.open(*args, **options)

    def __getattr__(self, name):
        return getattr(self._fs, name)


def counted(source: Source) -> Counting:
    fs, path = source._fs
    source.__dict__["_fs"] = Counting(fs), path
    return source.__dict__["_fs"][0]


def data_of(n: int) -> bytes:
    return b"%d of them, " % n * (n % 7 * 40)


def packed(path, count=20, **options):
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(count):
            archive.writestr(f"{n:05d}.png", data_of(n), METHODS[n % 4])
    return Source(str(path))


def test_every_method_reads_as_it_was_packed(tmp_path):
    source = packed(tmp_path / "a.zip")
    assert [source.read(item) for item in source.items()] == [data_of(n) for n in range(20)]


def test_a_member_costs_its_own_range_however_many_there_are(tmp_path):
    source = packed(tmp_path / "a.zip", 2000)
    items = list(source.items())
    fs = counted(source)
    assert [source.read(item) for item in items[:50]] == [data_of(n) for n in range(50)]
    assert (fs.opened, len(fs.asked)) == (0, 50)
    size = (tmp_path / "a.zip").stat().st_size
    # Headers and data side by side: together no more than the file, so each no more than its share.
    assert sum(fs.asked) < size / 20


def test_streamed_zips_and_junk_before_them(tmp_path):
    """Sizes after the data (a pipe's zip), a local extra field unlike the directory's, a program before the zip."""

    class Pipe:
        def __init__(self, file):
            self.write, self.flush = file.write, file.flush

    with open(tmp_path / "a.zip", "wb") as file:
        file.write(b"#!/bin/sh\n" * 100)
        with zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive:
            for n in range(5):
                archive.writestr(f"{n}.png", data_of(n))
            with archive.open("long.png", "w", force_zip64=True) as member:
                member.write(data_of(6))
    source = Source(str(tmp_path / "a.zip"))
    assert [source.read(item) for item in source.items()] == [*map(data_of, range(5)), data_of(6)]


def test_offsets_beyond_four_gigabytes(tmp_path):
    path = tmp_path / "a.zip"
    with open(path, "wb") as file:
        file.seek(5 << 30)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("1.png", data_of(1))
            archive.writestr("2.png", data_of(2))
    source = Source(str(path))
    assert [source.read(item) for item in source.items()] == [data_of(1), data_of(2)]
    assert all(int(item.inner.split("+")[0]) > 1 << 32 for item in source.items())


def flags(path, value):
    """Sets the flags of a zip of one member, in its header and its directory."""
    raw = bytearray(path.read_bytes())
    struct.pack_into("<H", raw, 6, value)
    struct.pack_into("<H", raw, raw.index(b"PK\1\2") + 8, value)
    path.write_bytes(raw)


def method(path, value):
    raw = bytearray(path.read_bytes())
    struct.pack_into("<H", raw, 8, value)
    struct.pack_into("<H", raw, raw.index(b"PK\1\2") + 10, value)
    path.write_bytes(raw)


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: flags(path, 1), "encrypted"),
        (lambda path: flags(path, 0x41), "encrypted"),
        (lambda path: method(path, 99), "99"),
        (flipped, "CRC|invalid"),
    ],
)
def test_what_does_not_unpack_says_so_at_once(tmp_path, change, said):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(range(256)) * 10)
    change(tmp_path / "a.zip")
    source = Source(str(tmp_path / "a.zip"))
    (item,) = source.items()
    with pytest.raises(CannotUnpack, match=said):
        source.read(item)
    loaded = load_input(source, item, paper())
    assert (loaded.error.code, loaded.attempts) == ("cannot_unpack", 1)


def test_a_zip_that_changed_since_it_was_planned(tmp_path):
    source = packed(tmp_path / "a.zip")
    items = list(source.items())
    for count in (19, 0):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for n in range(count):
                archive.writestr(f"{n:05d}.png", data_of(n + 1), METHODS[n % 4])
        for item in items[1:7]:
            with pytest.raises(InputChanged, match="planned"):
                source.read(item)
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(InputChanged):
        source.read(items[3])


def test_members_of_older_plans_are_found_by_their_number(tmp_path):
    source = packed(tmp_path / "a.zip")
    items = [replace(item, inner=f"{n}:{n:05d}.png") for n, item in enumerate(source.items())]
    assert [source.read(item) for item in items] == [data_of(n) for n in range(20)]
    with pytest.raises(InputChanged):
        source.read(replace(items[3], inner=items[4].inner))
    with pytest.raises(InputChanged):
        source.read(replace(items[3], inner="20:x"))


def test_a_zip_somewhere_else(tmp_path):
    packed(tmp_path / "a.zip")
    fsspec.filesystem("memory").pipe_file("/zips/a.zip", (tmp_path / "a.zip").read_bytes())
    source = Source("memory://zips")
    assert [source.read(item) for item in source.items()] == [data_of(n) for n in range(20)]
