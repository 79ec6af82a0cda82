"""The paper's quantizer: float8 e4m3 (Micikevicius et al. 2022), 4 exponent and 3 mantissa bits, largest value 448."""

from __future__ import annotations

import numpy as np

MAX = 448.0


def _values() -> np.ndarray:
    code = np.arange(127)  # 0x7F is NaN
    exponent, mantissa = code >> 3, code & 7
    normal = np.ldexp(8.0 + mantissa, exponent - 10)
    return np.where(exponent == 0, mantissa * 2.0**-9, normal)


_VALUES = _values()
_MIDDLES = (_VALUES[1:] + _VALUES[:-1]) / 2


def encode(x: np.ndarray) -> np.ndarray:
    """Nearest e4m3 code (sign in bit 7), ties to even, saturating: float64 any shape -> uint8."""
    size = np.abs(x)
    below = np.searchsorted(_MIDDLES, size, side="left")
    code = np.where((size == _MIDDLES[np.minimum(below, 125)]) & (below % 2 == 1) & (below < 126), below + 1, below)
    return (code | np.where(np.signbit(x) & (code > 0), 0x80, 0)).astype(np.uint8)


def decode(code: np.ndarray) -> np.ndarray:
    """Values of e4m3 codes, float64. The two NaN codes read as the largest value."""
    size = _VALUES[np.minimum(code & 0x7F, 126)]
    return np.where(code & 0x80, -size, size)


def scale_for(dimension: int) -> float:
    """The power of two by which measurements of ``dimension`` numbers in [-1, 1] are multiplied: it cannot overflow.

    An orthonormal row measures at most sqrt(D): e4m3 ends at 448, which is passed above 256x256x3.
    """
    scale = 1.0
    while scale * scale * dimension > MAX * MAX:
        scale /= 2
    while 4 * scale * scale * dimension <= MAX * MAX:
        scale *= 2
    return scale


class AdaptiveLaw:
    """Law of e4m3 codes: exponents by their counts so far (Krichevsky-Trofimov), sign and mantissa uniform."""

    def __init__(self) -> None:
        self._counts = np.ones(16, dtype=np.int64)

    def weights(self) -> np.ndarray:
        """Integer weight of every code (256,)."""
        return self._counts[np.arange(256) >> 3 & 15]

    def learn(self, codes: np.ndarray) -> None:
        self._counts += 2 * np.bincount(codes.astype(np.int64) >> 3 & 15, minlength=16)
