"""Range coder: sealed bytes are the shortest, and laws may change at every symbol."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.coding import range_coder
from psc_core.coding.range_coder import SymbolReader, SymbolWriter, coder_name
from psc_core.errors import CorruptStream

laws = st.lists(st.integers(0, 1 << 20), min_size=2, max_size=12).filter(any)


def sealed(symbols: np.ndarray, weights: np.ndarray) -> bytes:
    writer = SymbolWriter()
    writer.write(symbols, weights)
    return writer.finish()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.lists(st.integers(1, 60), min_size=4, max_size=4))
def test_no_shorter_bytes_mean_the_same(symbols, weights):
    symbols, law = np.array(symbols, dtype=np.int32), np.array(weights)
    payload = sealed(symbols, law)
    for size in range(1, min(len(payload), 3)):  # no bytes at all would mean that nothing was written
        step = 1 if size < 2 else 37
        for other in list(product(range(256), repeat=size))[::step]:
            assert not np.array_equal(SymbolReader(bytes(other)).read(len(symbols), law), symbols)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.tuples(laws, st.integers(0, 30)), max_size=12))
def test_messages_under_many_laws_come_back_within_two_bytes_of_ideal(data, parts):
    writer, sent, bits = SymbolWriter(), [], 0.0
    for weights, count in parts:
        likely = [k for k, w in enumerate(weights) if w]
        symbols = np.array(data.draw(st.lists(st.sampled_from(likely), min_size=count, max_size=count)), dtype=np.int32)
        law = np.array(weights)
        writer.write(symbols, law)
        sent.append((symbols, law))
        bits -= float(np.log2(law[symbols] / law.sum()).sum()) if count else 0.0
    payload = writer.finish()
    reader = SymbolReader(payload)
    for symbols, law in sent:
        np.testing.assert_array_equal(reader.read(len(symbols), law), symbols)
    assert len(payload) <= bits / 8 + 2


def test_one_certain_symbol_costs_at_most_a_byte():
    assert len(sealed(np.zeros(1000, dtype=np.int32), np.array([1 << 20, 0]))) <= 1


MESSAGES = st.lists(st.tuples(st.integers(2, 40), st.integers(0, 60), st.booleans(), st.integers(1, 30)), max_size=5)


def drawn(message, seed):
    """(symbols, weights) of every part: under one law, or a law each; weights of up to so many bits."""
    generator = np.random.default_rng(seed)
    for symbols, count, each, bits in message:
        weights = generator.integers(0, 1 << bits, (count, symbols) if each else symbols)
        weights[..., -1] += 1
        yield generator.integers(0, symbols, count).astype(np.int32), weights


def plainly(function, *arguments):
    """``function`` with the coder that needs no library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_coder, "LIBRARY", None)
        assert coder_name() == "plain"
        return function(*arguments)


def written(parts):
    writer = SymbolWriter()
    for symbols, weights in parts:
        writer.write(symbols, weights)
    return writer.finish()


def read(payload, parts):
    """Symbols, up to the part that the bytes cannot mean."""
    reader, found = SymbolReader(payload), []
    try:
        for symbols, weights in parts:
            found.append(reader.read(len(symbols), weights).tolist())
    except CorruptStream:
        found.append("corrupt")
    return found


@settings(max_examples=80, deadline=None)
@given(MESSAGES, st.integers(0, 2**32))
def test_the_plain_coder_writes_and_reads_constrictions_bytes(message, seed):
    assert coder_name() == "constriction", "the development environment has the library"
    parts = list(drawn(message, seed))
    payload = written(parts)
    assert plainly(written, parts) == payload
    sent = [symbols.tolist() for symbols, _ in parts]
    assert plainly(read, payload, parts) == read(payload, parts) == sent
    junk = np.random.default_rng(seed).bytes(len(payload))
    assert plainly(read, junk, parts) == read(junk, parts)
