"""Laws for posterior-predictive coding: integer weights of quantizer bins, from a stored cumulative table.

A coefficient's law is symmetric around its posterior mean with a standard deviation s. Bin weights come from the
table by linear interpolation in elementwise float64 and end as integers, so both sides hold the same.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from psc_core.exact import transcendental

_ROOT_2 = 1.4142135623730951
_STEPS = 64
_REACH = 24
_WEIGHT = float(1 << 20)


@cache
def cumulative_table(law: str) -> np.ndarray:
    """F(t) at t = -24, ..., 24 in steps of 1/64 for unit standard deviation: float64.

    laplace: 1/2 e^(sqrt2 t); gauss; logistic; mixed: half laplace, half logistic.
    """
    t = [i / _STEPS for i in range(-_REACH * _STEPS, 1)]
    tails = {
        "laplace": lambda x: transcendental.exp(_ROOT_2 * x) / 2,
        "gauss": lambda x: max(0.0, (1 + transcendental.erf(x / _ROOT_2)) / 2),
        "logistic": lambda x: transcendental.sigmoid(1.813799364234218 * x),
    }
    if law == "mixed":
        return (cumulative_table("laplace") + cumulative_table("logistic")) / 2
    lower = np.array([tails[law](x) for x in t])
    lower[-1] = 0.5
    return np.concatenate((lower, 1.0 - lower[-2::-1]))


def cumulative(t: np.ndarray, law: str) -> np.ndarray:
    """F(t), elementwise, t in standard deviations."""
    table = cumulative_table(law)
    place = np.clip((t + _REACH) * _STEPS, 0.0, 2.0 * _REACH * _STEPS - 1.0)
    index = np.floor(place)
    share = place - index
    base = index.astype(np.int64)
    low, high = table[base], table[base + 1]
    return low + share * (high - low)


def bin_weights(edges: np.ndarray, law: str) -> np.ndarray:
    """Integer weights (m, n) of the n bins between ascending ``edges`` (m, n+1), in standard deviations.

    The outer bins take the tails. An empty bin (equal edges) has weight 0, any other at least 1.
    """
    f = cumulative(edges, law)
    f[:, 0], f[:, -1] = 0.0, 1.0
    weights = np.rint((f[:, 1:] - f[:, :-1]) * _WEIGHT) + 1.0
    return np.where(edges[:, 1:] > edges[:, :-1], weights, 0.0)
