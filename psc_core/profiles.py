"""Profiles: all of a codec that changes the bytes of a stream, in one frozen object.

A profile's digest is the core of a dataset's fingerprint, and what it means never changes once released: a change of
the code that no other field tells raises the revision. A stream stores the name, the fields that differ from the
registered ones, and the digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar

from psc_core.errors import InvalidProfile, UnknownProfile

RESTORATIONS = ("mean", "perceptual", "flow", "ancestral")
"""How a stream may be turned into pixels; the last two are DiffC's alone."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What every codec needs. Lengths are in pixels (or latent pixels)."""

    restorations: ClassVar[tuple[str, ...]] = RESTORATIONS[:2]

    name: str
    revision: int = 1
    """Of what the other fields mean; the software knows one of each name, and it is not to be chosen."""
    codec: str
    """Which stage loop reads the other fields: ``psc`` (dense rows) or another registered codec."""
    tiers: int
    """How many tiers a stream is given, at least 1."""
    canvas: int
    """Largest side of a canvas; a larger image is cut into canvases, each coded alone."""

    def __post_init__(self) -> None:
        """A scalar of numpy becomes Python's, and a whole number for a field of floats a float: they are one profile,
        and have one digest.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            value = value.item() if getattr(value, "ndim", None) == 0 else value
            if field.type == "float" and type(value) is int and abs(value) < 2**53:
                value = float(value)
            object.__setattr__(self, field.name, value)

    @property
    def groups(self) -> int:
        """Groups of stages a tier, each a chunk of every canvas: one, since a cut point costs 5 bytes."""
        return 1

    @property
    def digest(self) -> str:
        """Hex sha256 over every field."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()

    def overrides(self) -> dict[str, Any]:
        """The fields that differ from the registered profile of the same name."""
        base = dataclasses.asdict(_registered(self.name))
        return {k: v for k, v in dataclasses.asdict(self).items() if base.get(k) != v}

    def check_restoration(self, how: str) -> None:
        """Raise :class:`InvalidProfile` unless streams of this profile can be restored so."""
        if how not in self.restorations:
            raise InvalidProfile(f"restore={how!r}: profile {self.name!r} has {', '.join(self.restorations)}")

    def check(self) -> None:
        """Raise :class:`InvalidProfile` unless every field has a possible value."""
        for field, low in (("tiers", 1), ("canvas", 16)):
            _at_least(self, field, low)


WIDEST = 832
"""Side of the largest canvas of `paper`: a Gram entry adds 3 x 832^2 < 2^21 products of at most 2^32, so below 2^53."""


@dataclass(frozen=True, kw_only=True)
class PaperProfile(Profile):
    """PSC as published (Elata et al., Algorithms 1 and 2, Appendix A): one AdaSense step a stage."""

    name: str = "paper"
    codec: str = "psc"
    tiers: int = 4
    canvas: int = 256
    samples: int = 16
    """s, posterior samples a stage."""
    rows: int = 12
    """r, rows of H a stage."""
    stages: int = 6
    """Stages a tier. The paper matches their number to the rate; a tier of 6 stages holds 72 rows."""
    steps: int = 25
    """Denoising steps a posterior sample."""
    eta: float = 1.0
    """DDRM's η: share of fresh noise in a step."""
    sampler: str = "ddrm"
    restore_samples: int = 64
    """``mean`` restoration: how many posterior samples are averaged."""
    perceptual_steps: int = 100
    """``perceptual`` restoration: steps of ΠGDM."""

    def check(self) -> None:
        super().check()
        for field, low in (("samples", 2), ("rows", 1), ("stages", 1), ("steps", 1), ("restore_samples", 1)):
            _at_least(self, field, low)
        if self.rows >= self.samples:
            raise InvalidProfile(
                f"rows={self.rows} with samples={self.samples}: s centred samples span at most s-1 directions; "
                f"choose rows < samples"
            )
        _within(self, "eta", 0, 1)
        if self.sampler not in ("ddrm", "ddpm"):
            raise InvalidProfile(f"sampler={self.sampler!r}: expected 'ddrm' or 'ddpm'")
        if self.canvas > WIDEST:
            raise InvalidProfile(f"canvas={self.canvas}: expected at most {WIDEST}, so that sums over it stay exact")


@dataclass(frozen=True, kw_only=True)
class ArchiveProfile(Profile):
    """Structured PSC: variances of a lapped basis' coefficients from a few samples around an estimate, embedded tiers.

    Noise levels are multiples of the tier's quantizer step, since that is what the samples' error scales with.
    """

    name: str = "archive"
    codec: str = "structured"
    tiers: int = 6
    canvas: int = 512
    window: int = 32
    """Side of a window of the lapped basis, a power of two: twice that of its transform of fine detail."""
    step: float = 2.4
    """Quantizer step of tier 0, in pixel units of [-1, 1]."""
    ratio: float = 0.6
    """Step of a tier over the step before."""
    first_step: float = 1.5
    """Step of the first stage, which no sample precedes, over tier 0's."""
    samples: int = 6
    """Posterior samples a tier."""
    first_steps: int = 4
    steps: int = 1
    first_heat: float = 0.8
    """First noise level over the step, when samples start from tier 0's first stage."""
    heat: float = 0.8
    """First noise level over the step, when samples start from the last tier's estimate."""
    cold: float = 0.1
    """Last noise level over the step."""
    eta: float = 1.0
    shrink: float = 8.0
    """How many samples the pooled variance is worth."""
    threshold: float = 0.06
    """A coefficient is measured when its variance exceeds this share of the squared step."""
    dead_zone: float = 1.1
    """Half-width of the zero bin over the step, of coefficients whose deviation is far below the step."""
    dead_zone_far: float = 0.65
    """The same, of those whose deviation is far above it: a bin other than zero costs them less."""
    inset: float = 0.4
    """Share of its width that a significant cell gives up at each end when samples are put into it."""
    law: str = "mixed"
    refine_floor: float = 0.1
    """Share of even odds mixed into a halving's law."""
    restore_samples: int = 8
    """``mean`` restoration: how many posterior samples are averaged; the second half mirrors the first's noise."""
    restore_steps: int = 6
    restore_heat: float = 0.5
    restore_cold: float = 0.1
    restore_eta: float = 1.0
    restore_orientations: int = 4
    """In how many a network that knows them sees the samples of a ``mean``: 1 as they are, 2 mirrored too, 4 upside
    down too."""
    perceptual_steps: int = 25
    perceptual_heat: float = 2.0
    """``perceptual`` restoration, one posterior sample: first noise level over the step."""
    perceptual_cold: float = 0.02
    perceptual_eta: float = 0.8

    def check(self) -> None:
        super().check()
        whole = ("window", "first_steps", "steps", "restore_samples", "restore_steps", "perceptual_steps")
        for field in whole:
            _at_least(self, field, 1)
        _at_least(self, "samples", 2)
        if self.restore_samples > _MOST_SUMMED:
            raise InvalidProfile(f"restore_samples={self.restore_samples}: expected at most {_MOST_SUMMED}")
        _at_least(self, "restore_orientations", 1)
        if self.restore_orientations not in (1, 2, 4):
            raise InvalidProfile(f"restore_orientations={self.restore_orientations}: expected 1, 2 or 4")
        _whole_windows(self)
        for field in ("eta", "restore_eta", "perceptual_eta", "refine_floor"):
            _within(self, field, 0, 1)
        for field, high in (("shrink", 1e9), ("threshold", 1e6), ("dead_zone", 16), ("dead_zone_far", 16)):
            _within(self, field, 0, high)
        _within(self, "inset", 0, 0.5, below=True)
        self._check_steps()
        for name, steps in (("first_", "first_steps"), ("", "steps")):
            self._check_levels(f"{name}heat", "cold", steps)
        for name in ("restore_", "perceptual_"):
            self._check_levels(f"{name}heat", f"{name}cold", f"{name}steps")
        if self.law not in ("laplace", "gauss", "logistic", "mixed"):
            raise InvalidProfile(f"law={self.law!r}: expected laplace, gauss, logistic or mixed")

    def _check_steps(self) -> None:
        """Quantizer steps: a finer one than the last allowed would have bins whose numbers are above 2^32."""
        _within(self, "step", _LEAST, 64)
        _within(self, "first_step", _LEAST, 16)
        _within(self, "ratio", _LEAST, 1)
        last = self.step
        for _ in range(min(self.tiers - 1, 1 << 16)):
            last *= self.ratio
        finest = min(self.step * self.first_step, last)
        if finest < _LEAST:
            given = f"step={self.step}, first_step={self.first_step}, ratio={self.ratio}, tiers={self.tiers}"
            raise InvalidProfile(f"{given}: the finest step is {finest:.2g}, expected at least {_LEAST:g}")

    def _check_levels(self, heat: str, cold: str, steps: str) -> None:
        """Noise levels fall from heat to cold; in a single step there is no cold."""
        for field in (heat, cold):
            _within(self, field, _LEAST, 16)
        if getattr(self, steps) > 1 and getattr(self, cold) > getattr(self, heat):
            raise InvalidProfile(f"{cold}={getattr(self, cold)}: expected at most {heat}={getattr(self, heat)}")


@dataclass(frozen=True, kw_only=True)
class DiffCProfile(Profile):
    """DiffC (Theis et al. 2022): samples of x + sigma n by reverse channel coding, sigma falling step by step.

    Noise levels are in pixel units of [-1, 1].
    """

    restorations: ClassVar[tuple[str, ...]] = RESTORATIONS

    name: str = "diffc"
    codec: str = "diffc"
    tiers: int = 6
    canvas: int = 512
    window: int = 32
    """Side of a DCT window, a power of two."""
    first_sigma: float = 8.0
    """Noise level after the first step, which no network call precedes."""
    sigma: float = 0.7
    """Noise level at the end of tier 0."""
    ratio: float = 0.62
    """Noise level at the end of a tier over that of the tier before."""
    first_steps: int = 10
    """Steps of tier 0."""
    steps: int = 2
    """Steps of every later tier, and groups of every tier."""
    chunk_bits: int = 12
    """Expected bits of a chunk of the reverse channel coder."""
    candidates: int = 16
    """Binary logarithm of how many candidates a chunk is searched in."""
    threshold: float = 0.1
    """A band is sent once what is unknown of it has this variance, in units of the noise that it is sent with."""
    flow_steps: int = 8
    """Heun steps of the probability-flow ODE (DiffC-F)."""
    ancestral_steps: int = 40
    """Steps of ancestral sampling (DiffC-A)."""

    @property
    def groups(self) -> int:
        """Each with a cut point after it."""
        return self.steps

    def check(self) -> None:
        super().check()
        for field in ("window", "first_steps", "steps", "chunk_bits", "candidates", "flow_steps", "ancestral_steps"):
            _at_least(self, field, 1)
        _whole_windows(self)
        for field, high in (("first_sigma", 64), ("sigma", 64), ("ratio", 1), ("threshold", 16)):
            _within(self, field, 0, high)
        if not 0.0 < self.sigma <= self.first_sigma <= 64.0 or not 0.1 <= self.ratio < 1.0:
            raise InvalidProfile(
                f"first_sigma={self.first_sigma}, sigma={self.sigma}, ratio={self.ratio}: expected 0 < sigma <= "
                "first_sigma <= 64 and 0.1 <= ratio < 1"
            )
        if self.first_steps < self.steps or self.first_steps + self.tiers * self.steps >= 1 << 12:
            raise InvalidProfile(
                f"first_steps={self.first_steps}, steps={self.steps}, tiers={self.tiers}: expected steps <= "
                "first_steps, and below 4096 steps in all"
            )
        last = self.sigma
        for _ in range(self.tiers - 1):
            last *= self.ratio
        if last < 1e-3:
            raise InvalidProfile(f"sigma={self.sigma}, ratio={self.ratio}, tiers={self.tiers}: ends below 0.001")
        if self.candidates > 18 or self.chunk_bits > 32 or not 0.0 < self.threshold < 16.0:
            raise InvalidProfile(
                f"candidates={self.candidates}, chunk_bits={self.chunk_bits}, threshold={self.threshold}: expected at "
                "most 18 and 32, and between 0 and 16"
            )


@dataclass(frozen=True, kw_only=True)
class LatentPaperProfile(PaperProfile):
    """Latent-PSC as published (section 4, Appendix A): projected DDPM samples in Stable Diffusion's latents."""

    name: str = "paper-latent"
    canvas: int = 512
    samples: int = 64
    rows: int = 48
    stages: int = 4
    """A tier of 4 stages holds 192 rows: about 0.006 bpp of a 512x512 image."""
    sampler: str = "ddpm"
    unguided_tail: int = 5
    """``perceptual`` restoration: how many of its last steps run without guidance."""

    def check(self) -> None:
        super().check()
        _at_least(self, "unguided_tail", 0)


_PROFILES: dict[str, Profile] = {
    "archive": ArchiveProfile(),
    "paper": PaperProfile(),
    "diffc": DiffCProfile(),
    "paper-latent": LatentPaperProfile(),
}


def profile_names() -> list[str]:
    """Names that :func:`get_profile` knows, in order of registration."""
    return list(_PROFILES)


def get_profile(name: str | Profile, **overrides: Any) -> Profile:
    """Return the registered profile ``name``, or a profile made from one, with some fields replaced.

    Raises:
        UnknownProfile: no profile of that name.
        InvalidProfile: a field that the profile has not, or a value that it cannot have; no profile; one that a stream
            cannot name, since nothing registered is like it.
    """
    base = _registered(name) if isinstance(name, str) else _storable(name)
    known = {f.name for f in dataclasses.fields(base)} - {"name", "revision", "codec"}
    if unknown := set(overrides) - known:
        raise InvalidProfile(f"profile {base.name!r} has no field {sorted(unknown)}; it has {sorted(known)}")
    profile = dataclasses.replace(base, **overrides)
    profile.check()
    return profile


_LEAST = 1e-6
"""Of steps and noise levels."""
_MOST_SUMMED = 1 << 13
"""Samples whose sum stays below 2^31 on the pixel grid."""


def _registered(name: str) -> Profile:
    try:
        return _PROFILES[name]
    except KeyError:
        raise UnknownProfile(f"no profile {name!r}; choose one of {', '.join(_PROFILES)}") from None


def _storable(profile: Any) -> Profile:
    """A profile, if a stream that names it and the fields that differ from the registered one's can be read again."""
    if not isinstance(profile, Profile):
        raise InvalidProfile(f"profile={profile!r}: expected one of {', '.join(_PROFILES)}, or what get_profile gives")
    registered = _PROFILES.get(profile.name) if isinstance(profile.name, str) else None
    if registered is None:
        raise InvalidProfile(
            f"a profile named {profile.name!r}: a stream can name {', '.join(_PROFILES)}, and the fields that differ: "
            "get_profile(NAME, FIELD=VALUE) makes one"
        )
    if type(profile) is not type(registered):
        given, expected = type(profile).__name__, type(registered).__name__
        raise InvalidProfile(f"a {given} named {profile.name!r}: expected {expected}; get_profile makes one")
    for field in ("revision", "codec"):
        value, known = getattr(profile, field), getattr(registered, field)
        if value != known:
            raise InvalidProfile(f"{field}={value!r} of profile {profile.name!r}: expected {known!r}; leave it out")
    return profile


def _whole_windows(profile: ArchiveProfile | DiffCProfile) -> None:
    window, canvas = profile.window, profile.canvas
    if window & (window - 1) or not 4 <= window <= 64 or canvas % window:
        raise InvalidProfile(f"window={window}: expected 4, 8, 16, 32 or 64, dividing canvas={canvas}")


def _at_least(profile: Profile, field: str, low: int) -> None:
    value = getattr(profile, field)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InvalidProfile(f"{field}={value!r}: expected a whole number of at least {low}")


def _within(profile: Profile, field: str, low: float, high: float, *, below: bool = False) -> None:
    value = getattr(profile, field)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or (below and value == high):
        raise InvalidProfile(f"{field}={value!r}: expected a number from {low:g} to {'below ' * below}{high:g}")
