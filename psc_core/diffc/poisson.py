"""The Poisson functional representation (Li & El Gamal 2018): a sample of q sent as an index into samples of p.

Candidates arrive at the times T_1 < T_2 < ... of a Poisson process; the one with the least T_k p/q is a sample of q.
For q = N(mu, I) and p = N(0, (1 + v) I), candidate k being sqrt(1 + v) z_k, ln q/p is, up to a constant,
sqrt(1 + v) mu.z - v z.z / 2: two products of whole numbers. Only an encoder searches, but its bytes are to be the same
everywhere, so the search is exact too.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from psc_core.diffc.chunks import Chunks
from psc_core.diffc.codebook import Codebook, Draws
from psc_core.exact import fixed, noise
from psc_core.exact.logarithm import ln

_OWN = 64
"""The first so many arrivals are a chunk's own: the shared ones after them have then settled to T_k ~ k."""
_FACTOR_BITS = 12
_FACTOR_LIMIT = 64.0
_SCORE_BITS = _FACTOR_BITS + noise.TABLE_BITS
"""|factor| <= 2^18, |z| < 2^14.2, z^2 on the grid 2^-12 below 2^16.2: 2 x 128 products stay below 2^43."""
_AT_ONCE = 64
_ARRIVALS = noise.NoiseKey(0, 0, 255, 0, 1)


def search(book: Codebook, chunks: Chunks, draws: Draws, mu: np.ndarray) -> np.ndarray:
    """The rank (from 0) of every chunk's winner: int64 (chunks,).

    mu: the mean of q for every coefficient of the chunks (m,), in its standard deviations.
    """
    ranks = np.empty(chunks.count, dtype=np.int64)
    gain = np.sqrt(chunks.variance + 1.0)
    linear = chunks.padded(_factor(gain * mu)) * draws.signs[:, : chunks.width]
    square = chunks.padded(_factor(chunks.variance * -0.5))
    own = own_arrivals(draws.exponentials(min(_OWN, book.size)), book.size)
    for start in range(0, chunks.count, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        scores = _scores(book, linear[part], square[part])
        for c in range(start, start + len(scores)):
            ranks[c] = _winner(scores[c - start], own[c], int(draws.offsets[c]), book.size)
    return ranks


def _scores(book: Codebook, linear_cn: np.ndarray, square_cn: np.ndarray) -> np.ndarray:
    """ln q/p of every candidate (c, N), on the grid 2^-24."""
    z, z2 = book.candidates()
    width = linear_cn.shape[1]
    first = fixed.matmul(_there(linear_cn, z), z[:width])
    return (first + fixed.matmul(_there(square_cn, z), z2[:width])).cpu().numpy()


def _winner(score_N: np.ndarray, own: np.ndarray, offset: int, size: int) -> int:
    """The rank of the least ln T - ln q/p; the first of equals. Row r of the codebook has rank r - offset."""
    shared = _shared_arrivals(size)
    cost = shared[size - offset : 2 * size - offset] - score_N
    rows = (offset + np.arange(len(own))) % size
    cost[rows] = own - score_N[rows]
    return (int(cost.argmin()) - offset) % size


def own_arrivals(exponentials_cn: np.ndarray, size: int) -> np.ndarray:
    """ln of a chunk's first n arrivals (c, n): given the n-th, which is shared, the others are its own."""
    sums = np.cumsum(exponentials_cn, axis=1)
    logs = _log(sums)
    last = exponentials_cn.shape[1] - 1
    return logs - logs[:, -1:] + _shared_arrivals(size)[last]


@cache
def _shared_arrivals(size: int) -> np.ndarray:
    """ln T_k on the grid 2^-24, twice in a row (2 size,), so that every rotation is a slice."""
    drawn = -_log(noise.words(_ARRIVALS, 0, size).astype(np.float64) + 0.5) + _log(np.array([2.0**32]))
    logs = _log(np.cumsum(drawn) * 2.0**-_SCORE_BITS)
    return np.concatenate((logs, logs))


def _log(x: np.ndarray) -> np.ndarray:
    return np.rint(ln(x) * 2.0**_SCORE_BITS)


def _factor(x: np.ndarray) -> np.ndarray:
    limit = _FACTOR_LIMIT * 2.0**_FACTOR_BITS
    return np.clip(np.rint(x * 2.0**_FACTOR_BITS), -limit, limit)


def _there(x: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(x).to(like.device)
