"""What is refused before anything is computed: what no machine is meant to, and streams of another prior."""

from __future__ import annotations

import warnings

from psc_core.coding.container import Stream
from psc_core.coding.header import ImageHeader
from psc_core.errors import CorruptStream, CutStream, InvalidProfile, WrongArithmetic, WrongPrior
from psc_core.priors.base import Prior
from psc_core.profiles import Profile

_SAMPLED_PIXELS = 1 << 26
"""Pixels of all samples of one canvas: a few GB. More is a header that nobody meant."""
_LEAST_SAMPLES = 8
"""A canvas takes as much memory as so many samples of it, however few are drawn."""
_KEY_RANGE = 1 << 12
"""Steps and stages have 12 bits each in the key of their noise."""


def check_cost(header: ImageHeader, profile: Profile) -> None:
    """Refuse what no machine is meant to compute, before anything is allocated: a header may claim any number."""
    samples = max(_LEAST_SAMPLES, *(getattr(profile, field, 1) for field in ("samples", "restore_samples")))
    height, width = min(header.height, profile.canvas), min(header.width, profile.canvas)
    if height * width * samples > _SAMPLED_PIXELS:
        room = f"room for {samples} samples of a {height}x{width} canvas"
        raise InvalidProfile(f"{room}: choose a smaller canvas, or fewer samples")
    steps = max((value for field, value in vars(profile).items() if field.endswith("steps")), default=1)
    stages = profile.tiers * getattr(profile, "stages", 1)
    if steps >= _KEY_RANGE or stages >= _KEY_RANGE:
        raise InvalidProfile(f"{steps} steps and {stages} stages in all: both must be below {_KEY_RANGE}")


def check_decodable(stream: Stream, prior: Prior) -> None:
    """Raise the typed error of what keeps ``prior`` from decoding ``stream``."""
    shared = stream.shared
    check_cost(stream.image, shared.profile)
    most = shared.profile.groups * stream.canvases
    for number, tier in enumerate(stream.tiers):
        if len(tier.chunks) > most:
            raise CorruptStream(f"tier {number} has {len(tier.chunks)} chunks; its profile makes {most}")
    held = len(stream.tiers[0].chunks) if stream.tiers else 0
    if held < stream.canvases:  # also bounds what is allocated by what was read
        cut = f"it begins {held} of its {stream.canvases} canvases" if held else "no tier was kept"
        raise CutStream(f"the stream was cut too short: {cut}, so there is no whole image to decode")
    if shared.arithmetic != prior.arithmetic:
        raise WrongArithmetic(
            f"the stream was encoded with arithmetic={shared.arithmetic!r}, the prior computes {prior.arithmetic!r}: "
            f"load the prior with arithmetic={shared.arithmetic!r}"
        )
    if shared.prior_fingerprint != prior.fingerprint:
        raise WrongPrior(
            f"the stream needs prior {shared.prior_name!r} ({shared.prior_fingerprint}), "
            f"given is {prior.name!r} ({prior.fingerprint})"
        )
    prior.check_condition(stream.condition)
    if shared.environment and shared.environment != prior.environment:
        warnings.warn(
            f"float stream from {shared.environment!r} on {prior.environment!r}: it may not decode here",
            stacklevel=3,
        )
