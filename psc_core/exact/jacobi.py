"""Eigen-decomposition of small symmetric matrices by cyclic Jacobi with fixed sweeps, signs and ties.

Every operation is one elementwise IEEE-754 float64 operation in a fixed order (numpy fuses none), so the result is the
same bits everywhere, which LAPACK cannot promise.
"""

from __future__ import annotations

import numpy as np

SWEEPS = 12


def eigh(matrix_BNN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (B, n) descending and eigenvectors (B, n, n) as rows, largest-magnitude entry of each positive.

    Golub & Van Loan, Matrix Computations, 8.5: parallel ordering, so each round rotates n/2 disjoint pairs.
    """
    a = np.array(matrix_BNN, dtype=np.float64)
    size = a.shape[1]
    if size % 2:  # a zero row and column let an odd size pair up; removed below
        a = np.pad(a, ((0, 0), (0, 1), (0, 1)))
    v = np.broadcast_to(np.eye(a.shape[1]), a.shape).copy()
    for _ in range(SWEEPS):
        for p, q in _rounds(a.shape[1]):
            _rotate(a, v, p, q)
    values = a[:, np.arange(size), np.arange(size)]
    vectors = v[:, :size, :size]
    order = np.argsort(-values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    return values, _fix_signs(np.take_along_axis(vectors, order[:, :, None], axis=1))


def _rotate(a: np.ndarray, v: np.ndarray, p: np.ndarray, q: np.ndarray) -> None:
    """Annihilate a[p, q] for disjoint pairs, in place; rows of ``v`` are the eigenvectors."""
    apq, difference = a[:, p, q], a[:, q, q] - a[:, p, p]
    live = apq != 0
    with np.errstate(over="ignore"):  # an infinite theta is a pair that is done: t = 0
        theta = difference / np.where(live, apq + apq, 1.0)
        root = np.sqrt(theta * theta + 1.0)
    t = np.where(theta >= 0, 1.0, -1.0) / (np.abs(theta) + root)
    t = np.where(live, t, 0.0)
    c = 1.0 / np.sqrt(t * t + 1.0)
    s = t * c
    c, s = c[:, :, None], s[:, :, None]
    for m in (a, v):
        mp, mq = m[:, p], m[:, q]
        m[:, p], m[:, q] = c * mp - s * mq, s * mp + c * mq
    ap, aq = a[:, :, p], a[:, :, q]
    c, s = c.transpose(0, 2, 1), s.transpose(0, 2, 1)
    a[:, :, p], a[:, :, q] = c * ap - s * aq, s * ap + c * aq


def _rounds(size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Round-robin pairings: size - 1 rounds that meet every pair once."""
    ring = list(range(size))
    out = []
    for _ in range(size - 1):
        left, right = ring[: size // 2], ring[size // 2 :][::-1]
        pairs = sorted((min(x, y), max(x, y)) for x, y in zip(left, right, strict=True))
        out.append((np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return out


def _fix_signs(vectors: np.ndarray) -> np.ndarray:
    peak = np.argmax(np.abs(vectors), axis=2)[:, :, None]
    return np.where(np.take_along_axis(vectors, peak, axis=2) < 0, -vectors, vectors)
