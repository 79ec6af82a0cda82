"""Prompts and labels in the image header: the shortest form, every one comes back, and what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psc_core import errors
from psc_core.coding.condition import ALPHABET, MAX_TEXT, Condition, condition_bits, pack
from psc_core.coding.header import ImageHeader

conditions = st.none() | st.integers(0, 2**31 - 1) | st.text(min_size=1, max_size=80) | st.text(ALPHABET, min_size=1)


def header(condition: Condition) -> ImageHeader:
    return ImageHeader(height=30, width=20, channels=3, condition=condition)


@given(conditions)
def test_conditions_come_back(condition):
    assert ImageHeader.from_bytes(header(condition).to_bytes()) == header(condition)


@given(conditions, st.data())
def test_no_change_of_one_byte_leaves_a_header_with_a_condition(condition, data):
    raw = header(condition).to_bytes()
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(errors.StreamError):
        ImageHeader.from_bytes(bytes(changed))


def test_the_alphabet_is_six_bits():
    assert len(ALPHABET) == len(set(ALPHABET)) == 64


def test_a_prompt_takes_six_bits_a_character_and_its_length():
    caption = "A man riding a wave on top of a surfboard."
    assert condition_bits(caption) == 8 * (1 + -(-6 * len(caption) // 8))
    without = header(None).to_bytes()
    assert 8 * (len(header(caption).to_bytes()) - len(without)) == condition_bits(caption)
    assert without[0] == 3, "headers of streams without conditions are what they were"


@pytest.mark.parametrize(
    ("condition", "size"),
    [
        ("2 dogs", 1 + 6),  # a digit is not in the alphabet: UTF-8
        ("a" * 300, 10),  # deflated
        ("Öl", 1 + 3),
        (0, 1),
        (207, 2),
        (None, 0),
    ],
)
def test_the_shortest_form_is_taken(condition, size):
    assert len(pack(condition)[1]) <= size
    assert ImageHeader.from_bytes(header(condition).to_bytes()).condition == condition


@pytest.mark.parametrize("form", range(5, 16))
def test_forms_of_a_later_version_are_refused(form):
    raw = bytearray(header(None).to_bytes())
    raw[0] |= form << 4
    with pytest.raises(errors.CorruptStream, match=f"form {form}"):
        ImageHeader.from_bytes(bytes(raw))


def test_a_prompt_that_inflates_without_end_is_refused():
    import zlib

    from psc_core.coding.condition import DEFLATED, unpack
    from psc_core.coding.varint import Reader, varint

    how = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = how.compress(b"a" * (MAX_TEXT * 100)) + how.flush()
    with pytest.raises(errors.CorruptStream, match="not text"):
        unpack(DEFLATED, Reader(varint(len(bomb)) + bomb))
