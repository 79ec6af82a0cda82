"""Damaged and hostile bytes: a typed error or the right pixels of fewer tiers, before memory or time is spent."""

from __future__ import annotations

import tracemalloc

import pytest

import psc_core
from psc_core import Stream, errors
from psc_core.coding.container import Chunk, Tier
from psc_core.coding.header import ImageHeader, SharedHeader
from tests.psc_core.photographs import photograph

PAPER = psc_core.get_profile("paper", samples=4, rows=3, steps=3, stages=1, tiers=3, restore_samples=2, canvas=32)
ARCHIVE = psc_core.get_profile("archive", tiers=3, window=8, canvas=16, restore_samples=2, restore_steps=1)


DIFFC = psc_core.get_profile(
    "diffc", tiers=3, window=8, canvas=16, first_steps=2, steps=1, candidates=6, chunk_bits=4, sigma=1.0
)
PROFILES = [pytest.param(PAPER, id="paper"), pytest.param(ARCHIVE, id="archive"), pytest.param(DIFFC, id="diffc")]


@pytest.fixture(scope="module")
def prior():
    return psc_core.load_prior("gaussian", device="cpu")


def small(prior, profile) -> tuple[Stream, set[bytes]]:
    """A stream (of several canvases under ARCHIVE), and the pixels of each of its tiers."""
    stream = psc_core.encode(photograph(width=18, height=10), prior, profile)
    return stream, {psc_core.decode(stream, prior, tier=k).tobytes() for k in range(3)}


def is_refused(data: bytes, prior, right: set[bytes], *, partial: bool = False) -> bool:
    try:
        pixels = psc_core.decode(Stream.from_bytes(data, partial=partial), prior)
    except errors.StreamError:
        return True
    assert pixels.tobytes() in right
    return False


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("tier", [0, 2])
def test_every_value_of_every_byte_is_refused(prior, profile, tier):
    """Also of a truncated stream, after whose last chunk more bytes would be plausible."""
    stream, right = small(prior, profile)
    data = stream.truncate(tier=tier).to_bytes()
    for place, old in enumerate(data):
        for new in set(range(256)) - {old}:
            assert is_refused(data[:place] + bytes([new]) + data[place + 1 :], prior, right), (place, new)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_damaged_file_read_in_part_is_never_another_image(prior, profile):
    stream, _ = small(prior, profile)
    data = stream.to_bytes()
    head = len(data) - sum(len(t.data) for t in stream.tiers)
    ends = [head + sum(len(t.data) for t in stream.tiers[:k]) + cut for k in range(3) for cut in stream.tiers[k].cuts]
    right = {psc_core.decode(stream.truncate(max_bytes=end), prior).tobytes() for end in ends}
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF, data[place]):  # the last one writes a zero: a chunk without length
            if flip:
                broken = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
                is_refused(broken, prior, right, partial=True)


def test_every_prefix_is_refused_or_what_came_before_is_right(prior):
    """Of one canvas, so that a prefix holds whole images only."""
    stream, right = small(prior, PAPER)
    data = stream.to_bytes()
    head = len(data) - sum(len(t.data) for t in stream.tiers)
    ends = {head + sum(len(t.data) for t in stream.tiers[: k + 1]) for k in range(3)}
    for length in range(len(data)):
        refused = is_refused(data[:length], prior, right)
        assert refused == (length not in ends)
        assert is_refused(data[:length], prior, right, partial=True) == (length < min(ends))


@pytest.mark.parametrize("canvas", [32, 1 << 20], ids=["many canvases", "one canvas"])
def test_a_claim_of_a_trillion_pixels_takes_no_memory(prior, canvas):
    profile = psc_core.get_profile("archive", canvas=canvas)
    shared = SharedHeader(profile=profile, prior_name="gaussian", prior_fingerprint=prior.fingerprint)
    tier = Tier.build([Chunk(b"ab", 1)], canvases=1, index=0)
    data = shared.to_bytes() + ImageHeader(height=1 << 20, width=1 << 20, channels=3).to_bytes() + tier.data
    peak, error = _peak_of(lambda: psc_core.decode(Stream.from_bytes(data), prior))
    assert isinstance(error, errors.CutStream if canvas == 32 else errors.InvalidProfile)
    assert peak < 1 << 22


@pytest.mark.parametrize("change", [{"steps": 10**9}, {"samples": 10**9}, {"stages": 10**6}, {"tiers": 10**6}])
def test_a_claim_of_endless_work_is_refused_on_both_sides(prior, change):
    stream, _ = small(prior, PAPER)
    endless = psc_core.get_profile(PAPER, **change)
    with pytest.raises(errors.InvalidProfile):
        psc_core.encode(photograph(width=4, height=4), prior, endless)
    shared = SharedHeader(profile=endless, prior_name="gaussian", prior_fingerprint=prior.fingerprint)
    with pytest.raises(errors.InvalidProfile):
        psc_core.decode(Stream(shared, stream.image, stream.tiers), prior)


def test_an_image_that_no_memory_holds_is_a_typed_error(prior):
    """Its canvases are there, and empty; 2^40 pixels are not."""
    profile = psc_core.get_profile("diffc", canvas=2048, steps=1)
    shared = SharedHeader(profile=profile, prior_name="gaussian", prior_fingerprint=prior.fingerprint)
    header = ImageHeader(height=1 << 20, width=1 << 20, channels=3)
    count = Stream(shared, header, ()).canvases
    tier = Tier.build([Chunk(b"", 0)] * count, canvases=count, index=0)
    stream = Stream.from_bytes(shared.to_bytes() + header.to_bytes() + tier.data)
    with pytest.raises(errors.OutOfMemory, match="1048576x1048576"):
        psc_core.decode(stream, prior)


def test_a_chunk_without_payload_is_no_free_pass(prior):
    stream, _ = small(prior, PAPER)
    head = stream.shared.to_bytes() + stream.image_header
    for tail in (b"\0", bytes(5), stream.tiers[0].data + b"\0", stream.tiers[0].data + bytes(5)):
        with pytest.raises(errors.StreamError):
            psc_core.decode(Stream.from_bytes(head + tail), prior)


def test_more_chunks_than_the_profile_makes_are_refused(prior):
    stream, _ = small(prior, PAPER)
    twice = Tier.build(stream.tiers[0].chunks * 2, canvases=1, index=0)
    with pytest.raises(errors.CorruptStream, match="2 chunks"):
        psc_core.decode(Stream(stream.shared, stream.image, (twice,)), prior)


def test_zeros_claiming_to_be_chunks_take_no_memory(prior):
    stream, _ = small(prior, PAPER)
    data = stream.shared.to_bytes() + stream.image_header + bytes(1_000_000)
    peak, error = _peak_of(lambda: Stream.from_bytes(data))
    assert isinstance(error, errors.CorruptStream)
    assert peak < 4 * len(data)


def test_only_the_last_tier_of_a_row_may_be_cut(prior):
    stream = psc_core.encode(photograph(width=32, height=16), prior, ARCHIVE)
    first, second, third = (tier.data for tier in stream.tiers)
    cut = second[: stream.tiers[1].cuts[0]]
    assert len(Stream.from_parts(stream.shared, stream.image_header, [first, cut]).tiers) == 2
    with pytest.raises(errors.CutStream, match="tier 1 ends early"):
        Stream.from_parts(stream.shared, stream.image_header, [first, cut, third])


def _peak_of(action) -> tuple[int, Exception | None]:
    """Bytes allocated at most, and what was raised."""
    tracemalloc.start()
    try:
        action()
        error = None
    except errors.PscError as raised:
        error = raised
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, error
