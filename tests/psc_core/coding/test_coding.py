"""Range coder, float8, varints, containers: properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core import errors
from psc_core.coding import float8
from psc_core.coding.container import Chunk, ImageHeader, SharedHeader, Stream, Tier
from psc_core.coding.range_coder import SymbolReader, SymbolWriter
from psc_core.coding.varint import Reader, varint
from psc_core.profiles import get_profile


@given(st.integers(0, 2**62))
def test_varints_come_back(value):
    reader = Reader(varint(value))
    assert reader.varint("it") == value
    assert reader.left == 0


laws = st.lists(st.integers(0, 1000), min_size=2, max_size=40).filter(any).map(np.array)


@settings(max_examples=60, deadline=None)
@given(st.data(), laws, st.integers(0, 300))
def test_symbols_come_back_and_cost_their_entropy(data, weights, count):
    symbols = np.array(
        data.draw(st.lists(st.integers(0, len(weights) - 1), min_size=count, max_size=count)), dtype=np.int32
    )
    writer = SymbolWriter()
    writer.write(symbols, weights)
    payload = writer.finish()
    np.testing.assert_array_equal(SymbolReader(payload).read(count, weights), symbols)
    if weights.sum() and np.all(weights[symbols] > 0):
        ideal = -np.log2(weights[symbols] / weights.sum()).sum() / 8
        assert len(payload) <= ideal + 2 + 0.001 * count


def test_a_law_each():
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 50, (500, 9)).astype(float)
    weights[np.arange(500), rng.integers(0, 9, 500)] += 100
    symbols = weights.argmax(1).astype(np.int32)
    writer = SymbolWriter()
    writer.write(symbols, weights)
    np.testing.assert_array_equal(SymbolReader(writer.finish()).read(500, weights), symbols)


def test_nothing_written_is_no_bytes():
    writer = SymbolWriter()
    writer.write(np.empty(0, dtype=np.int32), np.ones(4))
    assert writer.finish() == b""


def test_float8_is_torchs_float8_within_range():
    x = np.concatenate((np.linspace(-460, 460, 20001), np.linspace(-0.06, 0.06, 20001)))
    ties = (float8.decode(np.arange(126)) + float8.decode(np.arange(1, 127))) / 2
    x = np.concatenate((x, ties, -ties))
    inside = x[np.abs(x) <= 448]
    theirs = torch.from_numpy(inside).to(torch.float8_e4m3fn).double().numpy()
    np.testing.assert_array_equal(float8.decode(float8.encode(inside)), theirs)
    assert float8.decode(float8.encode(np.array([1e9, -1e9]))).tolist() == [448.0, -448.0]


@pytest.mark.parametrize("dimension", [192, 12288, 196608, 3 * 512 * 512])
def test_scaled_measurements_cannot_overflow(dimension):
    assert 224 < float8.scale_for(dimension) * dimension**0.5 <= 448


def stream_of(payloads: list[list[bytes]]) -> Stream:
    profile = get_profile("archive", tiers=max(1, len(payloads)), canvas=32)
    shared = SharedHeader(profile=profile, prior_name="gaussian", prior_fingerprint="0f" * 16)
    tiers = [
        Tier.build([Chunk(p, len(p) * 77 & 0xFFFF if p else 0) for p in t], canvases=2, index=k)
        for k, t in enumerate(payloads)
    ]
    return Stream(shared, ImageHeader(height=32, width=64, channels=3), tuple(tiers))


chunks = st.binary(max_size=200)
layouts = st.lists(st.tuples(chunks, chunks).map(list), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(layouts)
def test_containers_come_back(payloads):
    stream = stream_of(payloads)
    assert stream.canvases == 2
    assert Stream.from_bytes(stream.to_bytes()) == stream
    assert SharedHeader.from_json(stream.shared.to_json()) == stream.shared
    parts = Stream.from_parts(stream.shared, stream.image_header, [t.data for t in stream.tiers])
    assert parts == stream
    stream.verify()
    assert len(stream.to_bytes()) == stream.nbytes


@settings(max_examples=60, deadline=None)
@given(layouts, st.integers(0, 2000))
def test_a_budget_is_kept_and_its_stream_is_valid(payloads, budget):
    stream = stream_of(payloads)
    try:
        cut = stream.truncate(max_bytes=budget)
    except errors.TierOutOfRange:
        assert budget < len(stream.shared.to_bytes()) + len(stream.image_header)
        return
    assert cut.nbytes <= budget
    assert not cut.tiers or len(cut.tiers[0].chunks) == cut.canvases, "no cut before all canvases have begun"
    again = Stream.from_bytes(cut.to_bytes())
    assert [t.data for t in again.tiers] == [t.data for t in cut.tiers]
    assert stream.to_bytes().startswith(cut.to_bytes())


def test_a_hostile_size_is_refused_before_memory_is_taken():
    small = stream_of([[b"a", b"b"]])
    huge = Stream(small.shared, ImageHeader(height=1 << 20, width=1 << 20, channels=3), small.tiers)
    read = Stream.from_bytes(huge.to_bytes())
    from psc_core import decode, load_prior

    with pytest.raises(errors.CutStream, match="2 of its"):
        decode(Stream(read.shared, read.image, read.tiers), load_prior("gaussian"))
