"""What an image is conditioned on, in bytes: a text prompt or a class label, and one byte's worth of form before it.

A prompt takes 6 bits a character where the alphabet has all of its characters (PSC section 4 counts so), else UTF-8,
deflated where that is shorter.
"""

from __future__ import annotations

import string
import zlib
from numbers import Integral

from psc_core.coding.varint import Reader, varint
from psc_core.errors import CorruptStream, InvalidCondition

Condition = str | int | None
NONE, LABEL, SIX_BITS, UTF8, DEFLATED = range(5)
ALPHABET = string.ascii_lowercase + string.ascii_uppercase + " .,'-\"!?:;()"
"""64 characters: every caption of a sample of 300 of COCO's has these alone."""
MAX_TEXT = 1 << 14
"""Bytes of UTF-8 that a prompt may have; text encoders read 77 tokens."""
MAX_LABEL = 1 << 31


def checked(condition: Condition) -> Condition:
    """The condition as a plain ``str`` or ``int`` (numpy has its own), an empty prompt being none.

    Raises :class:`InvalidCondition` for what no stream can hold.
    """
    if isinstance(condition, str):
        try:
            size = len(condition.encode())
        except UnicodeEncodeError as error:
            raise InvalidCondition(f"the prompt is not text: {error}") from None
        if size > MAX_TEXT:
            raise InvalidCondition(f"a prompt of {size} bytes: expected at most {MAX_TEXT}")
        return str.__str__(condition) or None
    if condition is None:
        return None
    if isinstance(condition, bool) or not isinstance(condition, Integral) or not 0 <= int(condition) < MAX_LABEL:
        raise InvalidCondition(f"condition={condition!r}: expected a prompt, a class label from 0, or None")
    return int(condition)


def pack(condition: Condition) -> tuple[int, bytes]:
    """The shortest form of a condition: its number, and its bytes."""
    if condition is None:
        return NONE, b""
    if isinstance(condition, int):
        return LABEL, varint(condition)
    raw = condition.encode()
    squeezed = _deflate(raw)
    forms = [(UTF8, varint(len(raw)) + raw), (DEFLATED, varint(len(squeezed)) + squeezed)]
    if set(condition) <= set(ALPHABET):
        forms.insert(0, (SIX_BITS, varint(len(condition)) + _six_bits(condition)))
    return min(forms, key=lambda form: len(form[1]))


def unpack(form: int, reader: Reader) -> Condition:
    """Inverse of :func:`pack`. Raises :class:`CorruptStream` or :class:`CutStream`."""
    if form == NONE:
        return None
    if form == LABEL:
        return _possible(reader.varint("the class label"))
    size = reader.varint("the prompt's length")
    if size > MAX_TEXT:
        raise CorruptStream(f"a prompt of {size} bytes or characters; at most {MAX_TEXT} are possible")
    if form == SIX_BITS:
        return _possible(_from_six_bits(reader.take((6 * size + 7) // 8, "the prompt"), size))
    raw = reader.take(size, "the prompt")
    try:
        return _possible((raw if form == UTF8 else _inflate(raw)).decode())
    except (UnicodeDecodeError, zlib.error):
        raise CorruptStream("the prompt is not text") from None


def condition_bits(condition: Condition) -> int:
    """Bits that a condition takes in an image's header."""
    return 8 * len(pack(condition)[1])


def _possible(condition: Condition) -> Condition:
    try:
        return checked(condition)
    except InvalidCondition as error:
        raise CorruptStream(f"impossible condition: {error}") from None


def _six_bits(text: str) -> bytes:
    value = 0
    for place, character in enumerate(text):
        value |= ALPHABET.index(character) << 6 * place
    return value.to_bytes((6 * len(text) + 7) // 8, "little")


def _from_six_bits(raw: bytes, count: int) -> str:
    value = int.from_bytes(raw, "little")
    if value >> 6 * count:
        raise CorruptStream("the prompt has bits after its last character")
    return "".join(ALPHABET[value >> 6 * place & 63] for place in range(count))


def _deflate(raw: bytes) -> bytes:
    how = zlib.compressobj(9, zlib.DEFLATED, -15)
    return how.compress(raw) + how.flush()


def _inflate(raw: bytes) -> bytes:
    how = zlib.decompressobj(-15)
    out = how.decompress(raw, MAX_TEXT + 1)
    if not how.eof or how.unused_data or len(out) > MAX_TEXT:
        raise zlib.error("not one deflated prompt")
    return out
