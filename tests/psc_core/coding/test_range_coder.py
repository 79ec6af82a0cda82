"""Range coder: sealed bytes are the shortest, and laws may change at every symbol."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.coding.range_coder import SymbolReader, SymbolWriter

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
