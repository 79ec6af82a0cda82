"""Noise levels of a DiffC stream: falling geometrically to the first tier's last, then a fixed ratio a tier."""

from __future__ import annotations

from functools import cache

from psc_core.exact.transcendental import power
from psc_core.profiles import DiffCProfile


def steps_in(profile: DiffCProfile, tiers: int) -> int:
    """How many steps the first ``tiers`` tiers have."""
    return profile.first_steps + (tiers - 1) * profile.steps if tiers else 0


@cache
def group_levels(profile: DiffCProfile, tier: int, group: int) -> tuple[float, ...]:
    """Noise levels, in pixel units of [-1, 1], at which the steps of one group (cut point) of a tier end."""
    count = steps_in(profile, tier + 1) - steps_in(profile, tier)
    first, last = (count * g // profile.steps for g in (group, group + 1))
    return tuple(_level(profile, tier, step + 1, count) for step in range(first, last))


def _level(profile: DiffCProfile, tier: int, step: int, count: int) -> float:
    """The level after ``step`` of ``count`` steps of a tier."""
    if tier == 0:
        return profile.first_sigma * power(profile.sigma / profile.first_sigma, (step - 1) / max(1, count - 1))
    start = profile.sigma
    for _ in range(tier - 1):
        start *= profile.ratio
    return start * power(profile.ratio, step / count)
