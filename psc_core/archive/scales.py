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
_USUAL = (np.array((4, 4, 6, 5, 6, 6)), np.array((6, 8, 7, 8, 7, 8)))
"""Indices of the first stage, whose variance is a law of photographs, and of the second, the first with samples."""
_DRIFT = (np.array((-1, 0, 2, -1, 0, 0)), np.array((-1, -1, 0, -1, 0, 0)))
"""How an index differs from the last one: in the third stage, and from the fourth on. All medians over ImageNet."""
_WORTH = 60.0
"""How many coefficients the expected index is worth in the encoder's estimate."""
_FIRST_WEIGHTS = np.array([(1 << 16) * 12**d // 20**d + 512 for d in range(SCALES)], dtype=np.int64)
_WEIGHTS = np.array([(1 << 16) * 4**d // 20**d + 512 for d in range(SCALES)], dtype=np.int64)
"""By the distance from the expected index: in the first stage, and later."""


class ScaleIndices:
    """The indices of a batch of canvases, one a class: what is expected next, under which law, and which fits."""

    def __init__(self, batch: int) -> None:
        self.expected = np.broadcast_to(_USUAL[0], (batch, CLASSES))
        self._stages = 0

    def needed(self, most: np.ndarray, least: float) -> np.ndarray:
        """Whether a class needs an index (B, classes): not if the next larger than expected would code nothing.

        ``most``: the largest variance of each class (B, classes); ``least``: what one needs, scaled, to be coded.
        """
        larger = _scales()[np.minimum(self.expected + 1, SCALES - 1)]
        return most * larger > least

    def weights(self, needed: np.ndarray) -> list[np.ndarray]:
        """Integer weights (indices, scales) of the needed indices of every canvas."""
        distance = np.abs(np.arange(SCALES) - self.expected[:, :, None])
        law = (_WEIGHTS if self._stages else _FIRST_WEIGHTS)[distance]
        return [own[where] for own, where in zip(law, needed, strict=True)]

    def learn(self, indices: Sequence[np.ndarray], needed: np.ndarray) -> np.ndarray:
        """Expect what usually follows; c of every class (B, classes)."""
        found = self.expected.copy()
        for own, where, some in zip(found, needed, indices, strict=True):
            own[where] = some
        usual = _USUAL[1] if not self._stages else found + _DRIFT[min(self._stages, 2) - 1] * needed
        self.expected = np.clip(np.broadcast_to(usual, found.shape), 0, SCALES - 1)
        self._stages += 1
        return _scales()[found]


def fitting(errors: np.ndarray, variance: np.ndarray, expected: int, least: float) -> int:
    """The index under which the coefficients that it has coded are likeliest (Laplace); encoder only.

    Args:
        errors: truth less posterior mean (n,). variance: what the samples promise (n,).
        expected: the index of a class with no coefficients, worth ``_WORTH`` of them elsewhere.
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


@cache
def _scales() -> np.ndarray:
    return np.array([scale_of(i) for i in range(SCALES)])
