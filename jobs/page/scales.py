"""From values to pixels of a drawing: linear and logarithmic scales, and where their ticks go."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """``low`` and ``high`` in units of the value lie at ``start`` and ``end`` in pixels."""

    low: float
    high: float
    start: float
    end: float
    ratios: bool = False
    """Equal ratios are equally far apart; values are above 0."""

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.ratios else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        """Round values in range with their texts; of a logarithmic scale 1, 2 and 5 times powers of ten."""
        values = self._ratio_ticks(wanted) if self.ratios else self._linear_ticks(wanted)
        return [(value, f"{value:g}") for value in values]

    def _linear_ticks(self, wanted: int) -> list[float]:
        rough = (self.high - self.low) / wanted
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
        return [round(k * step, 10) for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def _ratio_ticks(self, wanted: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [d * 10.0**p for p in powers for d in digits if self.low <= d * 10.0**p <= self.high]
            if len(found) <= wanted + 2:
                break
        # A range within two of them has ticks as a linear one.
        return [float(f"{v:.6g}") for v in found] if len(found) > 1 else self._linear_ticks(wanted)


def padded(low: float, high: float, share: float, *, ratios: bool = False) -> tuple[float, float]:
    """The range with a margin at each end; a single value gets a range around it."""
    if ratios:
        low, high = padded(math.log(low), math.log(high), share)
        return math.exp(low), math.exp(high)
    margin = (high - low) * share or max(abs(low) * 0.1, 0.5)
    return low - margin, high + margin
