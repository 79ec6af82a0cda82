"""Our profiles as curves: which profile, with which fields, on which prior; and what one image costs and gives."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import psc_core
from jobs.bench.curves import Point
from jobs.bench.distortion import Judge
from jobs.bench.meter import Meter
from jobs.bench.reference_codecs import costs
from psc_core.coding.condition import Condition
from psc_core.errors import TierOutOfRange

_SPEC = re.compile(r"(?:(?P<label>[^=:@]+)=)?(?P<name>[^=:@]+)(?::(?P<fields>.*))?")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One profile on one prior. Variants of the same ``curve`` are points of one curve."""

    curve: str
    spec: str
    profile: psc_core.Profile
    prior: str
    arithmetic: str = "exact"
    restore: str = "mean"
    seed: int = 0
    cuts: tuple[float, ...] = ()
    """Rates in bits a pixel at which streams are also cut, below whole tiers."""
    in_dataset: bool = False
    """Whether bytes are counted as a dataset's row holds them: without the header that all its images share."""
    alone: bool = field(default=True)
    """Whether the curve is this variant's only."""

    def about(self, prior: Any) -> dict[str, Any]:
        """All that decides the figures, as it enters the record and the checkpoint's key."""
        return {
            "profile": {"name": self.profile.name, **self.profile.overrides()},
            "profile_digest": self.profile.digest,
            "prior": prior.name,
            "prior_fingerprint": prior.fingerprint,
            "arithmetic": self.arithmetic,
            "restore": self.restore,
            "seed": self.seed,
            "cuts": list(self.cuts),
        } | ({"in_dataset": True} if self.in_dataset else {})

    def setting(self, name: Any) -> Any:
        """The name of a point, unique in the curve."""
        return name if self.alone else f"{self.spec} {name}"


def variants(
    specs: Sequence[str], priors: Sequence[str], overrides: Sequence[str] = (), **options: Any
) -> list[Variant]:
    """Every profile of ``specs`` on every prior, those of one prior together.

    Args:
        specs: ``NAME``, ``NAME:field=value,...``, or ``LABEL=NAME:...`` to join several into one curve.
        overrides: ``NAME.field=value``, for every spec of that profile.
        options: other fields of :class:`Variant`.

    Raises:
        click.UsageError: a malformed spec. UnknownProfile, InvalidProfile: of psc_core.
    """
    out = []
    names = [Path(prior).name for prior in priors]
    if len(set(names)) < len(names):
        raise click.UsageError(f"--prior {', '.join(priors)}: two of the same name; rename a folder")
    for prior, shown in zip(priors, names, strict=True):
        for spec in specs:
            curve, profile = _profile(spec, overrides)
            label = curve if shown == "photo" else f"{curve}@{shown}"
            out.append(Variant(curve=label, spec=spec, profile=profile, prior=prior, alone=curve == spec, **options))
    return out


def _profile(spec: str, overrides: Sequence[str]) -> tuple[str, psc_core.Profile]:
    """(curve's name, profile) of a spec."""
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise click.UsageError(f"--profile {spec!r}: expected NAME, NAME:field=value,... or LABEL=NAME:...")
    name = found["name"]
    fields = dict(assignment(o.removeprefix(f"{name}."), o) for o in overrides if o.startswith(f"{name}."))
    fields |= dict(assignment(part, spec) for part in (found["fields"] or "").split(",") if part)
    return found["label"] or spec, psc_core.get_profile(name, **fields)


def assignment(text: str, given: str) -> tuple[str, Any]:
    """FIELD=VALUE as (field, value), the value JSON or else a string; ``given`` is what the user wrote around it."""
    key, sign, raw = text.partition("=")
    if not sign:
        raise click.UsageError(f"{given!r}: expected field=value, found {text!r}")
    try:
        return key, json.loads(raw)
    except ValueError:
        return key, raw


def check_overrides(overrides: Sequence[str], specs: Sequence[str]) -> None:
    """Raise :class:`click.UsageError` for a ``--set`` that changes nothing: its profile is not measured."""
    names = {found["name"] for spec in specs if (found := _SPEC.fullmatch(spec))}
    for given in overrides:
        if given.split(".", 1)[0] not in names:
            raise click.UsageError(f"--set {given}: no --profile of that name; expected PROFILE.FIELD=VALUE")


def measure(variant: Variant, prior: Any, image: np.ndarray, judge: Judge, condition: Condition = None) -> list[Point]:
    """A point a tier, and one a cut that holds a whole picture; each as if decoded from its own bytes alone."""
    calls = prior.nfe
    with Meter() as encoding:
        stream = psc_core.encode(image, prior, variant.profile, seed=variant.seed, condition=condition)
    common = {"nfe_encode": prior.nfe - calls, "parameters": prior.parameters}

    def point(name: str, prefix: psc_core.Stream, found: _Decoded) -> Point:
        header = len(stream.shared.to_bytes()) if variant.in_dataset else 0
        judged = judge.rate_and_distortion(len(prefix.to_bytes()) - header, image, found.pixels)
        cost = costs(encoding, found) | {"nfe_decode": found.nfe}
        return {"setting": variant.setting(name), **judged, **common, **cost}

    stored = psc_core.Stream.from_bytes(stream.to_bytes())
    every = enumerate(_tiers(stored, prior, variant.restore))
    points = [point(f"tier {k}", stream.truncate(tier=k), found) for k, found in every]
    for bpp, prefix in _cuts(stored, variant.cuts):
        points += [point(f"{bpp:g} bpp", prefix, *_tiers(prefix, prior, variant.restore, since=len(prefix.tiers) - 1))]
    return points


class _Decoded(NamedTuple):
    """A picture, and what decoding it alone costs: the replay up to its tier, and its restoration."""

    pixels: np.ndarray
    nfe: float
    seconds: float
    memory_mb: float


def _tiers(stream: psc_core.Stream, prior: Any, restore: str, *, since: int = 0) -> Iterator[_Decoded]:
    """The pictures of all tiers from tier ``since``: from one replay, or, of several canvases, each decoded alone.

    A replay holds the states of all canvases, which is not what decoding takes.
    """
    if stream.canvases > 1:
        yield from (_alone(stream, prior, restore, tier) for tier in range(since, len(stream.tiers)))
        return
    replay = psc_core.replay(stream, prior)
    nfe, seconds, memory = 0, 0.0, 0.0
    for tier in range(len(stream.tiers)):
        calls = prior.nfe
        with Meter() as replaying:
            state = next(replay)
        nfe, seconds, memory = nfe + prior.nfe - calls, seconds + replaying.seconds, max(memory, replaying.memory_mb)
        if tier < since:
            continue
        calls = prior.nfe
        with Meter() as restoring:
            pixels = state.restore(restore)
        peak = max(memory, restoring.memory_mb)
        yield _Decoded(pixels, nfe + prior.nfe - calls, seconds + restoring.seconds, peak)


def _alone(stream: psc_core.Stream, prior: Any, restore: str, tier: int) -> _Decoded:
    calls = prior.nfe
    with Meter() as decoding:
        pixels = psc_core.decode(stream, prior, tier=tier, restore=restore)
    return _Decoded(pixels, prior.nfe - calls, decoding.seconds, decoding.memory_mb)


def _cuts(stream: psc_core.Stream, cuts: Sequence[float]) -> Iterator[tuple[float, psc_core.Stream]]:
    """Rates in bits a pixel, all headers counted, and the stream cut there, where that is a whole picture."""
    for bpp in cuts:
        try:
            cut = stream.truncate(max_bytes=int(bpp * stream.height * stream.width / 8))
        except TierOutOfRange:  # not even the headers fit
            continue
        if cut.tiers and len(cut.tiers[0].chunks) >= cut.canvases:
            yield bpp, cut


def warm_up(prior: Any) -> None:
    """One call of the network, so that what is compiled once is not counted on the first image."""
    side = max(32, prior.multiple)
    prior = prior.conditioned(0) if prior.condition_kind == "label" else prior
    prior.denoise(prior.to_model(np.zeros((side, side, 3), np.uint8))[None], 1.0)
    prior.nfe = 0


def code_digest() -> str:
    """32 bits, in hex, of a sha256 over psc_core's sources: a record made by several versions says so."""
    total = hashlib.sha256()
    root = Path(psc_core.__file__).parent
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".c", ".h", ".npy")):
        total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:8]
