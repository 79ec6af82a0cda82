"""Reverse channel coding: what is decoded is a sample of q, and the rank is near the KL."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psc_core.diffc.chunks import Chunks, cut, expected_bits
from psc_core.diffc.codebook import WIDTH, Codebook, Draws
from psc_core.diffc.poisson import own_arrivals, search
from psc_core.exact import logarithm, noise

BOOK = Codebook(13, torch.device("cpu"))


def equal_chunks(count: int, width: int, variance: float) -> Chunks:
    return Chunks(
        np.arange(count * width),
        np.full(count * width, variance),
        np.arange(count + 1) * width,
        np.full(count, width * expected_bits(variance) // 4096),
    )


@pytest.mark.parametrize(("width", "variance"), [(3, 5.0), (8, 1.0), (30, 0.2)])
def test_winners_are_samples_of_q(width, variance):
    count = 700
    chunks, draws = equal_chunks(count, width, variance), Draws(3, 0, 1, count, BOOK.size)
    mu = np.random.default_rng(0).standard_normal(count * width) * math.sqrt(variance)
    ranks = search(BOOK, chunks, draws, mu)
    sample = chunks.flat(BOOK.winners(ranks, draws, chunks.width)) * math.sqrt(1 + variance)
    rest, scale = sample - mu, 1 / math.sqrt(count * width)
    assert abs(rest.mean()) < 4 * scale
    assert rest.var() == pytest.approx(1.0, abs=4 * math.sqrt(2) * scale)
    assert abs((rest * mu).mean() / math.sqrt(variance)) < 4 * scale + 0.01
    assert abs((rest.reshape(count, width)[1:] * rest.reshape(count, width)[:-1]).mean()) < 4 * scale
    within = np.abs(rest)[:, None] < np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(within.mean(axis=0), [0.3829, 0.6827, 0.9545], atol=0.03)


def test_ranks_cost_about_the_divergence():
    """E[log2 rank] <= KL + 1 / (e ln 2) + ...: below KL + 1 here."""
    count, width, variance = 500, 20, 0.4
    chunks, draws = equal_chunks(count, width, variance), Draws(3, 0, 2, count, BOOK.size)
    mu = np.random.default_rng(1).standard_normal(count * width) * math.sqrt(variance)
    ranks = search(BOOK, chunks, draws, mu)
    divergence = (math.log1p(variance) + (1 + mu**2) / (1 + variance) - 1).sum() / 2 / math.log(2) / count
    assert divergence - 1 < np.log2(ranks + 1).mean() < divergence + 1


def test_the_search_finds_the_least_of_all_candidates():
    """Against the definition in plain float, chunk by chunk."""
    chunks, draws = equal_chunks(6, 11, 0.7), Draws(5, 2, 4, 6, BOOK.size)
    mu = np.random.default_rng(2).standard_normal(66)
    ranks = search(BOOK, chunks, draws, mu)
    rows = noise.normal(noise.NoiseKey(0, 0, 255, 0, 0), range(1), (BOOK.size, WIDTH))[0].double().numpy()
    arrivals = own_arrivals(draws.exponentials(64), BOOK.size) * 2.0**-24
    shared = np.log(np.arange(1, BOOK.size + 1))  # T_k ~ k, close enough to judge the winner by
    for c in range(6):
        places = (np.arange(BOOK.size) + draws.offsets[c]) % BOOK.size
        y = rows[places, :11] * draws.signs[c, :11] * math.sqrt(1.7)
        m = mu[c * 11 : (c + 1) * 11]
        log_ratio = -((y - m) ** 2).sum(1) / 2 + (y**2).sum(1) / 2 / 1.7
        times = shared.copy()
        times[:64] = arrivals[c]
        cost = times - log_ratio
        assert cost[ranks[c]] < cost.min() + 0.3
        np.testing.assert_allclose(BOOK.winners(ranks, draws, 11)[c], y[ranks[c]] / math.sqrt(1.7), rtol=1e-12)


def test_chunks_see_different_candidates():
    draws = Draws(0, 0, 0, 50, BOOK.size)
    first = BOOK.winners(np.zeros(50, dtype=np.int64), draws, 64)
    correlation = np.corrcoef(first) - np.eye(50)
    assert np.abs(correlation).max() < 5.5 / math.sqrt(64)
    again = Draws(0, 1, 0, 50, BOOK.size)
    assert not np.array_equal(again.signs, draws.signs)


def test_first_arrivals_are_ordered_and_poisson():
    times = np.exp(own_arrivals(Draws(1, 0, 0, 400, BOOK.size).exponentials(64), BOOK.size) * 2.0**-24)
    assert (np.diff(times, axis=1) > 0).all()
    assert len(set(times[:, -1])) == 1  # the 64th is shared
    gaps = np.diff(times, axis=1) * 64 / times[0, -1]
    assert gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert gaps.var() == pytest.approx(1.0, abs=0.15)


@given(
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=6),
    variances=st.lists(st.floats(0.001, 120.0), min_size=6, max_size=6),
    target=st.integers(1, 14),
    data=st.data(),
)
def test_any_plan_covers_what_is_sent_in_chunks_that_are_short_enough(sizes, variances, target, data):
    sent = np.array(data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes))))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    chunks = cut(starts, np.array(variances[: len(sizes)]), sent, target)
    wanted = [k for band, own in enumerate(sent) if own for k in range(starts[band], starts[band + 1])]
    assert chunks.places.tolist() == wanted
    assert chunks.starts[0] == 0
    assert chunks.starts[-1] == len(wanted)
    lengths = np.diff(chunks.starts)
    assert (lengths > 0).all()
    assert lengths.max(initial=0) <= WIDTH
    most = max([expected_bits(v) for v, own in zip(variances, sent, strict=False) if own], default=0) / 4096
    assert chunks.bits.max(initial=0) <= target + most + 1
    np.testing.assert_array_equal(chunks.flat(chunks.padded(np.arange(len(wanted)) + 1.0)), np.arange(len(wanted)) + 1)


def test_the_logarithm_of_arrays_is_near_the_true_one():
    x = np.concatenate((np.geomspace(1e-12, 1e12, 9999), [1.0, 2.0, 0.5]))
    np.testing.assert_allclose(logarithm.ln(x), np.log(x), atol=2.5e-7, rtol=0)


def test_rows_of_noise_are_those_of_all_noise():
    key = noise.NoiseKey(2**40, 1, 2, 3, 4)
    whole = noise.normal(key, range(1), (90, 24))[0].numpy()
    np.testing.assert_array_equal(noise.rows(key, np.array([0, 89, 7, 7]), 24), whole[[0, 89, 7, 7]])
