"""Ranks through the range coder: any rank comes back, at about its Zipf length."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from psc_core.diffc.zipf import RankLaw, exchange_ranks
from psc_core.sides import DecoderSide, EncoderSide

BITS = 12


def there_and_back(steps: list[tuple[list[int], list[int]]]) -> tuple[list[list[int]], int]:
    """Ranks of some steps of one canvas, written and read; and how many bytes they took."""
    side, laws = EncoderSide(torch.zeros(1)), [RankLaw(BITS)]
    for ranks, expected in steps:
        exchange_ranks(side, lambda _, own=ranks: [np.array(own)], laws, [np.array(expected)])
    payloads = side.finish()
    reader, laws = DecoderSide(payloads), [RankLaw(BITS)]
    read = [exchange_ranks(reader, lambda _: [], laws, [np.array(e)])[0].tolist() for _, e in steps]
    return read, len(payloads[0])


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2**BITS - 1), st.integers(0, 30)), min_size=1, max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_any_rank_comes_back(pairs):
    steps = [tuple(map(list, zip(*step, strict=True))) for step in pairs]
    assert there_and_back(steps)[0] == [ranks for ranks, _ in steps]


def test_ranks_under_zipf_cost_little_more_than_their_logarithm():
    rng = np.random.default_rng(0)
    ranks = np.exp2(rng.uniform(0, BITS, 3000)).astype(int) - 1
    steps = [(part.tolist(), [6] * len(part)) for part in ranks.reshape(30, 100)]
    bits = 8 * there_and_back(steps)[1] / len(ranks)
    assert bits < np.log2(ranks + 1).mean() + np.log2(BITS) + 0.5


def test_a_law_learns_where_ranks_are():
    peaked = [([900 + k for k in range(50)], [3] * 50) for _ in range(20)]  # all between 2^9 and 2^10
    assert 8 * there_and_back(peaked)[1] / 1000 < 9.5
