"""Headers: round trips, and what may not be in them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import psc_core
from psc_core import errors
from psc_core.coding.header import MAGIC, MAX_SIDE, VERSION, ImageHeader, SharedHeader, _crc
from psc_core.coding.varint import Reader, text, varint
from psc_core.profiles import get_profile
from tests.format import container

sides = st.integers(1, MAX_SIDE)
images = st.builds(ImageHeader, height=sides, width=sides, channels=st.sampled_from([1, 3]))
profiles = st.builds(
    get_profile, st.sampled_from(["paper", "archive"]), tiers=st.integers(1, 29), canvas=st.sampled_from([32, 64, 512])
)
shared = st.builds(
    SharedHeader,
    profile=profiles,
    prior_name=st.text(max_size=20),
    prior_fingerprint=st.binary(min_size=16, max_size=16).map(bytes.hex),
    arithmetic=st.sampled_from(["exact", "float"]),
    environment=st.text(max_size=20),
    seed=st.integers(0, 2**63 - 1),
)
IMAGE = ImageHeader(height=32, width=32, channels=3)
PAPER = {"paper": dataclasses.asdict(get_profile("paper"))}
FIELDS = json.loads(SharedHeader(profile=get_profile("paper"), prior_name="x", prior_fingerprint="0f" * 16).to_json())


@given(images)
def test_image_headers_come_back(header):
    assert ImageHeader.from_bytes(header.to_bytes()) == header


@given(shared)
def test_shared_headers_come_back_in_both_forms(header):
    reader = Reader(header.to_bytes() + b"rest")
    assert SharedHeader.read(reader) == header
    assert reader.left == 4
    assert SharedHeader.from_json(header.to_json()) == header


@given(images, st.data())
def test_no_change_of_one_byte_leaves_an_image_header_of_that_length(header, data):
    raw = header.to_bytes()
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(errors.StreamError):
        ImageHeader.from_bytes(bytes(changed))


@pytest.mark.parametrize("size", [(16_384, 20_000), (300, 200), (1, 1)])
def test_every_change_of_one_byte_in_some_image_headers(size):
    raw = ImageHeader(height=size[0], width=size[1], channels=3).to_bytes()
    for place, old in enumerate(raw):
        for new in set(range(256)) - {old}:
            with pytest.raises(errors.StreamError):
                ImageHeader.from_bytes(raw[:place] + bytes([new]) + raw[place + 1 :])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, -1, "?", [], {}, 1.5, True])
def test_json_with_an_impossible_field_is_refused(field, value):
    possible = field in ("prior_name", "environment") and isinstance(value, str)
    raw = json.dumps(FIELDS | {field: value})
    if possible:
        assert getattr(SharedHeader.from_json(raw), field) == value
        return
    with pytest.raises(errors.StreamError):
        SharedHeader.from_json(raw)


@pytest.mark.parametrize("raw", ["", "[", "3", "null", "{}", "[" * 100_000], ids=lambda raw: raw[:6])
def test_what_is_no_header_in_json_is_refused(raw):
    with pytest.raises(errors.CorruptStream):
        SharedHeader.from_json(raw)


def test_a_later_version_is_named_in_both_forms():
    with pytest.raises(errors.UnknownVersion, match=str(VERSION + 1)):
        SharedHeader.from_json(json.dumps(FIELDS | {"version": VERSION + 1}))
    with pytest.raises(errors.UnknownVersion, match=str(VERSION + 1)):
        SharedHeader.read(Reader(MAGIC + bytes([VERSION + 1])))


def written(fields: str = "", more: bytes = b"", version: int = VERSION) -> bytes:
    """A shared header of the profile ``paper`` as somebody may write it, its checksum right."""
    digest = bytes.fromhex(get_profile("paper").digest)[:4]
    body = b"".join((text("paper"), text(fields), digest, text("x"), bytes(16), b"\0", text(""), varint(0), more))
    head = MAGIC + bytes([version]) + varint(len(body)) + body
    return head + _crc(head)


@pytest.mark.parametrize("fields", ["[" * 100_000, "[]", "null", '{"tiers":NaN}', '{"codec":"x"}', '{"name":3}'])
def test_overrides_that_cannot_be_are_refused(fields):
    """The checksum is right: somebody wrote them so."""
    with pytest.raises(errors.StreamError):
        SharedHeader.read(Reader(written(fields)))


@pytest.mark.parametrize("fields", ['{"name":"paper"}', '{"codec":"psc"}', '{"revision":1}'])
def test_overrides_name_no_profile(fields):
    """Nothing would differ, so that the digest is right."""
    assert SharedHeader.read(Reader(written("{}"))).profile == get_profile("paper")
    with pytest.raises(errors.StreamError):
        SharedHeader.read(Reader(written(fields)))
    with pytest.raises(container.Bad):
        container.parse(written(fields) + IMAGE.to_bytes(), PAPER)


def test_a_shared_header_ends_with_its_seed():
    whole = written() + IMAGE.to_bytes()
    assert psc_core.Stream.from_bytes(whole).image == IMAGE
    assert container.parse(whole, PAPER).seed == 0
    longer = written(more=b"garbage") + IMAGE.to_bytes()
    with pytest.raises(errors.CorruptStream, match="7 bytes too many in the file header"):
        psc_core.Stream.from_bytes(longer)
    with pytest.raises(container.Bad, match="more than its fields"):
        container.parse(longer, PAPER)


@pytest.mark.parametrize("condition", [7, "a dog", "naïve", "the same words, " * 20])
def test_the_first_version_has_no_conditions(condition):
    image = ImageHeader(height=32, width=32, channels=3, condition=condition).to_bytes()
    later = psc_core.Stream.from_bytes(written() + image)
    assert later.condition == container.parse(written() + image, PAPER).condition == condition
    assert psc_core.Stream.from_parts(later.shared, image, []).condition == condition
    old = written(version=1)
    for read in (psc_core.Stream.from_bytes, _as_a_row):
        with pytest.raises(errors.CorruptStream, match=r"a condition of form \d in format version 1"):
            read(old + image)
    with pytest.raises(container.Bad, match="impossible image header"):
        container.parse(old + image, PAPER)
    assert psc_core.Stream.from_bytes(old + IMAGE.to_bytes()).condition is None


def _as_a_row(data: bytes) -> psc_core.Stream:
    reader = Reader(data)
    shared = SharedHeader.read(reader)
    return psc_core.Stream.from_parts(shared, data[reader.position :], [])


@pytest.mark.parametrize("digest", ["", "0", FIELDS["profile_digest"][:8], FIELDS["profile_digest"].upper(), None, 3])
def test_json_holds_all_of_a_profiles_digest(digest):
    with pytest.raises(errors.CorruptStream, match="not a stream header"):
        SharedHeader.from_json(json.dumps(FIELDS | {"profile_digest": digest}))
