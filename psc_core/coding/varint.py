"""Unsigned LEB128 integers and a reader over bytes that knows how to say that they ended too early."""

from __future__ import annotations

from psc_core.errors import CorruptStream, CutStream


def varint(value: int) -> bytes:
    """Encode ``value`` >= 0, seven bits a byte, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """A cursor over bytes; every read past the end raises :class:`CutStream` that names what was being read."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int, what: str) -> bytes:
        if count > self.left:
            raise CutStream(f"the bytes end inside {what}: {count} expected, {self.left} left")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self, what: str) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CorruptStream(f"{what}: a number of more than 63 bits")

    def text(self, what: str) -> str:
        raw = self.take(self.varint(what), what)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise CorruptStream(f"{what} is not text") from None


def text(value: str) -> bytes:
    """Length-prefixed UTF-8."""
    raw = value.encode()
    return varint(len(raw)) + raw
