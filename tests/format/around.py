"""Section 4.5 of the format's page: phases, and what a coefficient's neighbours say, one coefficient at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.format.arithmetic import power

OF_MEANS = {
    "diagonal": (
        ((0.6, 0.82), (0.8, 0.58), (0.9, 0.5), (1.0, 0.4)),
        ((0.75, 0.45), (0.85, 0.4), (0.95, 0.35), (1.0, 0.28)),
    ),
    "beside": (
        ((0.7, 0.6), (0.9, 0.42), (1.05, 0.24), (1.08, 0.2)),
        ((0.8, 0.4), (0.92, 0.24), (1.04, 0.15), (1.06, 0.13)),
    ),
}
"""Luma, chroma: by the number of neighbours, share of their mean and share of variance left."""


class Around:
    """The neighbourhoods of a canvas's coefficients, (3, windows down, windows across, w, w)."""

    def __init__(self, basis: Any) -> None:
        (self.down, self.across), self.w = basis.counts, basis.w
        self.shape = (3, self.down, self.across, self.w, self.w)
        self.phases = np.empty(self.shape, dtype=int)
        for row, column, u, v in np.ndindex(self.shape[1:]):
            phase = 3 + {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}[(u // 2 + u % 2) % 2, (v // 2 + v % 2) % 2]
            if u == v == 0:
                phase = {(0, 0): 0, (1, 1): 1}.get((row % 2, column % 2), 2)
            self.phases[:, row, column, u, v] = phase
        self.phases = self.phases.reshape(-1)
        self.powers = np.array([power(1.0 + n, 0.4) for n in range(13)])

    def clustering(self, significant: np.ndarray) -> np.ndarray:
        s = np.pad(significant.reshape(self.shape).astype(int), ((0, 0), (1, 1), (1, 1), (1, 1), (1, 1)))
        inner = slice(1, -1)
        count = sum(
            s[:, inner, inner, 1 + u : 1 + u + self.w, 1 + v : 1 + v + self.w]
            for u in (-1, 0, 1)
            for v in (-1, 0, 1)
            if (u, v) != (0, 0)
        )
        for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            count = count + s[:, 1 + i : 1 + i + self.down, 1 + j : 1 + j + self.across, inner, inner]
        return self.powers[count].reshape(-1)

    def factor(self, errors: np.ndarray, known: np.ndarray) -> np.ndarray:
        ratio = (self._near(errors) / 256 + 2) / (self._near(known) + 2)
        return np.sqrt(ratio) * np.sqrt(np.sqrt(ratio))

    def _near(self, x: np.ndarray) -> np.ndarray:
        padded = np.pad(x.reshape(self.shape), ((0, 0), (0, 0), (0, 0), (2, 2), (2, 2)))
        return sum(padded[..., u : u + self.w, v : v + self.w] for u in range(5) for v in range(5)).reshape(-1)

    def left(self) -> np.ndarray:
        return self.expected(np.zeros(self.shape))[1]

    def expected(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = values.reshape(self.shape)
        mean, left = np.zeros(self.shape), np.ones(self.shape)
        for channel, row, column in np.ndindex(self.shape[:3]):
            means = {
                (i, j): z[channel, row + i, column + j, 0, 0]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if 0 <= row + i < self.down and 0 <= column + j < self.across
            }
            to, share = mean[channel, row, column], left[channel, row, column]
            odd = row % 2 + column % 2
            if odd:
                near = [m for (i, j), m in means.items() if abs(i) + abs(j) == (2 if odd == 2 else 1)]
                if near:
                    law = OF_MEANS["diagonal" if odd == 2 else "beside"][min(channel, 1)][len(near) - 1]
                    to[0, 0], share[0, 0] = sum(near) / len(near) * law[0], law[1]
            for axis, before, after in ((1, (0, -1), (0, 1)), (0, (-1, 0), (1, 0))):
                sides = (before in means) + (after in means)
                if sides:
                    own = means[0, 0]
                    one, other = means.get(before, own), means.get(after, own)
                    line, rest = (to[0], share[0]) if axis else (to[:, 0], share[:, 0])
                    slope, bend = other - one, (other + one - 2.0 * own) * 0.037
                    line[1:4] = slope * -0.15, slope * -0.048 + bend, slope * -0.048 - bend
                    rest[1:4] = (0.9, 0.94, 0.94) if sides == 1 else (0.74, 0.83, 0.83)
        return mean.reshape(-1), left.reshape(-1)
