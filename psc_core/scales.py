"""How far the samples' variance is from the truth's: a scale c, a power of sqrt 2, for each class of coefficients.

Posterior samples are over-confident by a factor that changes slowly from stage to stage, so that a stage's index is
coded under a law that falls off around the last one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from psc_core.exact import transcendental

CLASSES = 6
"""Luma, then chroma: DC and the lowest ring, a middle and a high band of frequencies."""
SCALES = 16
_FIRST_POWER = -4
_BEFORE_SAMPLES = (4, 4, 6, 4, 6, 6)
"""Usual indices of the first stage, whose variance is a law of photographs. Medians over ImageNet photographs."""
_FIRST_SAMPLED = (8, 8, 6, 8, 6, 6)
"""And of the second stage, the first with samples."""
_WORTH = 8.0
"""How many coefficients the expected index is worth in the encoder's estimate."""
_WEIGHTS = np.array([(1 << 16) * 9**d // 20**d + 512 for d in range(SCALES)], dtype=np.int64)


class ScaleIndices:
    """The indices of a batch of canvases, one a class: what is expected next, under which law, and which fits."""

    def __init__(self, batch: int) -> None:
        self.expected = np.broadcast_to(np.array(_BEFORE_SAMPLES, dtype=np.int64), (batch, CLASSES))
        self._stages = 0

    def weights(self) -> list[np.ndarray]:
        """Integer weights (classes, scales) of every canvas's indices."""
        distance = np.abs(np.arange(SCALES) - self.expected[:, :, None])
        return list(_WEIGHTS[distance])

    def learn(self, indices: Sequence[np.ndarray]) -> np.ndarray:
        """Expect the same again; c of every class (B, classes)."""
        found = np.stack([np.asarray(own, dtype=np.int64) for own in indices])
        self._stages += 1
        self.expected = np.broadcast_to(_FIRST_SAMPLED, found.shape) if self._stages == 1 else found
        return np.array([scale_of(i) for i in range(SCALES)])[found]


def fitting(errors: np.ndarray, variance: np.ndarray, expected: int, least: float) -> int:
    """The index under which the coefficients that it has coded are likeliest (Laplace); encoder only.

    Args:
        errors: truth less posterior mean (n,). variance: what the samples promise (n,).
        expected: the index of a class with no coefficients, worth a few of them elsewhere.
        least: the scaled variance above which a coefficient is coded.
    """
    # Whole numbers, so that the sum below is the same in any order: the bytes hang on it.
    normal = np.rint(np.minimum(np.abs(errors) / np.sqrt(variance), _FAR) * _FINE).astype(np.int64)
    best, usual = expected, float(np.sqrt(scale_of(expected) * 0.5)) * _WORTH
    for _ in range(3):
        coded = variance * scale_of(best) > least
        average = (int(normal[coded].sum()) / _FINE + usual) / (int(np.count_nonzero(coded)) + _WORTH)
        best = int(np.searchsorted(_between_scales(), 2.0 * average * average, side="right"))
    return best


def scale_of(index: int) -> float:
    """c: sqrt 2 to the power ``index`` - 4."""
    half = index + _FIRST_POWER
    return 2.0 ** (half // 2) * (float(np.sqrt(2.0)) if half % 2 else 1.0)


_FINE, _FAR = 2.0**12, 2.0**20


@cache
def _between_scales() -> np.ndarray:
    """Where c is as near to one scale as to the next, in powers: (SCALES - 1,)."""
    return np.array([transcendental.power(2.0, (i + _FIRST_POWER + 0.5) / 2) for i in range(SCALES - 1)])
