"""Elias-gamma numbers through the range coder: any come back, at the length that is theirs."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from psc_core.coding.elias_gamma import exchange_gamma, leading_bit
from psc_core.sides import DecoderSide, EncoderSide

TOP = 31
FLAT = np.ones(TOP + 1, dtype=np.int64)


def there_and_back(canvases, weights):
    """What is read, and the bytes of every canvas; the truth is asked for once, and at the encoder alone."""
    asked, counts = [], [len(c) for c in canvases]

    def wanted(truth):
        asked.append(truth)
        return [np.array(c, dtype=np.int64) for c in canvases]

    side = EncoderSide(torch.zeros(len(canvases)))
    written = exchange_gamma(side, wanted, weights, counts)
    payloads = side.finish()
    read = exchange_gamma(DecoderSide(payloads), None, weights, counts)
    assert len(asked) == 1
    assert [n.tolist() for n in written] == [n.tolist() for n in read]
    return read, [len(p) for p in payloads]


@given(st.lists(st.lists(st.integers(1, 2 ** (TOP + 1) - 1), max_size=12), min_size=1, max_size=3))
def test_any_numbers_come_back(canvases):
    one_law = [FLAT] * len(canvases)
    a_law_each = [np.arange(1, TOP + 2) + np.arange(len(c))[:, None] for c in canvases]
    for weights in (one_law, a_law_each):
        read, _ = there_and_back(canvases, weights)
        assert [n.tolist() for n in read] == canvases
        assert all(n.dtype == np.int64 for n in read)


def test_a_number_costs_its_leading_bit_and_those_below():
    geometric = np.array([1 << (TOP - k) for k in range(TOP + 1)], dtype=np.int64)
    numbers = np.repeat([1, 2, 5, 16, 303], 200)
    _, (size,) = there_and_back([numbers], [geometric])
    bits = sum(2 * int(leading_bit(np.array([n]))[0]) + 1 for n in numbers)
    assert abs(8 * size - bits) < 40


def test_leading_bits_to_the_ends():
    numbers = [1, 2, 3, 4, 7, 8, 2**31 - 1, 2**31, 2**32 - 1, 2**52]
    assert leading_bit(np.array(numbers)).tolist() == [n.bit_length() - 1 for n in numbers]
