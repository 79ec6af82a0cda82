"""Jacobi on what sensing gives it: Gram matrices, degenerate, graded, and in batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.exact import jacobi


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 17), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_gram_matrices_of_any_rank(size, rank, seed):
    a = np.rint(np.random.default_rng(seed).standard_normal((size, rank)) * 1000)
    gram = a @ a.T
    values, vectors = (x[0] for x in jacobi.eigh(gram[None]))
    scale = max(np.abs(gram).max(), 1.0)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(gram)[::-1], atol=1e-11 * scale * size)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(vectors.T @ (values[:, None] * vectors), gram, atol=1e-11 * scale * size)
    assert np.all(np.diff(values) <= 0)
    assert (np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1) > 0).all()


@pytest.mark.parametrize("size", [33, 64])
def test_twelve_sweeps_are_enough_for_graded_matrices(size):
    """Over 2^50 in size, 64 samples are the hardest case: 1e-10 of the largest value is left."""
    rng = np.random.default_rng(size)
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    wanted = 2.0 ** np.linspace(50, 0, size)
    matrix = (q * wanted) @ q.T
    values, vectors = (x[0] for x in jacobi.eigh(((matrix + matrix.T) / 2)[None]))
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-9 * wanted[0])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(size), atol=1e-12)


def test_a_matrix_has_the_same_bits_alone_and_in_company():
    a = np.random.default_rng(1).standard_normal((5, 9, 9))
    matrices = a @ a.transpose(0, 2, 1)
    together = jacobi.eigh(matrices)
    for k in range(5):
        for alone, shared in zip(jacobi.eigh(matrices[k : k + 1]), together, strict=True):
            assert alone[0].tobytes() == shared[k].tobytes()
