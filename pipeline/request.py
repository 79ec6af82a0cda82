"""What a compress job is asked to do: the parameters that change bytes apart from those that do not."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psc_core
from pipeline.errors import BadRequest
from pipeline.inputs.images import MAX_BYTES, MAX_PIXELS, POLICY
from psc_core.fitted import fitted

if TYPE_CHECKING:
    from pipeline.dataset.plan import Plan

DEFAULT_PROFILE = "archive"
DEFAULT_PRIOR = "photo"
PRIORS_VARIABLE = "PSC_PRIORS"
"""See :mod:`psc_core.priors`, which cannot be asked without loading torch."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that decides a dataset's bytes, before a prior is loaded.

    size: longest side in pixels after reduction, None to keep; max_bpp: cap on each image's rate, None for
    all tiers; target_psnr: end each stream with the first tier whose estimate reaches so many dB; max_pixels and
    max_bytes: caps on an input, before it is decoded.
    """

    profile: str | psc_core.Profile = DEFAULT_PROFILE
    overrides: dict[str, Any] = field(default_factory=dict)
    prior: str = DEFAULT_PRIOR
    arithmetic: str = "exact"
    seed: int = 0
    max_bpp: float | None = None
    target_psnr: float | None = None
    size: int | None = None
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    captions: str | None = None
    """Prompts: a file of them, or the name of a column; see :mod:`pipeline.inputs.conditions`."""
    labels: str | None = None
    """Class labels, likewise."""
    captioner: str | None = None
    """A model that captions the images that have no prompt yet; see :mod:`pipeline.inputs.captioner`."""
    needs: str = ""
    """What streams that are there say of their prior, for the error that it is missing."""

    @classmethod
    def of_plan(cls, plan: Plan, *, prior: str | None = None) -> Request:
        """The request that a plan was made for; ``prior``: where it is, if not where it was."""
        header = psc_core.SharedHeader.from_json(plan.shared)
        names = {"max_bpp", "target_psnr", "size", "max_pixels", "max_bytes", "captioner"}
        known = {name: plan.params[name] for name in names & plan.params.keys()}
        return replace(cls.of_streams(header, prior=prior, loaded_from=plan.prior), **known)

    @classmethod
    def of_streams(cls, header: psc_core.SharedHeader, *, prior: str | None = None, loaded_from: str = "") -> Request:
        """What these streams were encoded with; ``loaded_from``: where its prior was then."""
        needs = f"the streams need prior {header.prior_name!r} (fingerprint {header.prior_fingerprint})"
        needs += f", which was loaded from {loaded_from}" if loaded_from not in ("", header.prior_name) else ""
        there = loaded_from if os.path.exists(loaded_from) else header.prior_name
        return cls(
            profile=header.profile,
            prior=prior or there,
            arithmetic=header.arithmetic,
            seed=header.seed,
            needs=needs,
        ).absolute()

    def absolute(self) -> Request:
        """The same with the prior's path, if it is one, as an absolute path: workers may run elsewhere. A name in the
        folder of priors stays a name.
        """
        named = os.environ.get(PRIORS_VARIABLE)
        if named and os.path.exists(os.path.join(named, self.prior)):
            return self
        if os.path.exists(self.prior):
            return replace(self, prior=os.path.abspath(self.prior))
        return self

    def check(self) -> None:
        """Raise BadRequest, UnknownProfile or InvalidProfile, before anything is started."""
        self.get_profile()
        if self.arithmetic not in ("exact", "float"):
            raise BadRequest(f"arithmetic {self.arithmetic!r}: expected 'exact' or 'float'")
        if not 0 <= self.seed < 2**63:
            raise BadRequest(f"seed {self.seed}: expected a whole number from 0 to 2^63 - 1")
        if self.max_bpp is not None and not self.max_bpp > 0:
            raise BadRequest(f"max_bpp {self.max_bpp}: expected a number of bits a pixel above 0")
        if self.target_psnr is not None and not math.isfinite(self.target_psnr):
            raise BadRequest(f"target_psnr {self.target_psnr}: expected a number of decibels")
        if self.size is not None and self.size < 1:
            raise BadRequest(f"size {self.size}: expected a number of pixels of at least 1")
        if self.max_pixels < 1:
            raise BadRequest(f"max_pixels {self.max_pixels}: expected a number of pixels of at least 1")

        if self.labels is not None and (self.captions or self.captioner):
            raise BadRequest("--labels beside --captions or --captioner: a model takes class labels or prompts")

    def check_conditions(self, prior: Any) -> None:
        """Raise BadRequest if prompts or labels are given to a prior that does not take them."""
        takes: str | None = getattr(prior, "condition_kind", None)
        option = "--labels" if self.labels else "--captioner" if self.captioner else "--captions"
        given = "label" if self.labels else "text" if self.captions or self.captioner else takes
        if given != takes:
            said = {"text": "text prompts (--captions)", "label": "class labels (--labels)"}.get(
                takes or "", "neither prompts nor labels"
            )
            raise BadRequest(f"{option}: prior {prior.name!r} takes {said}")

    def get_profile(self) -> psc_core.Profile:
        return psc_core.get_profile(self.profile, **self.overrides)

    def params(self) -> dict[str, Any]:
        """What enters the plan's fingerprint beside the shared header."""
        from pipeline.inputs.conditions import identity

        given = {"captioner": self.captioner} if self.captioner else {}
        for name, place in (("captions", self.captions), ("labels", self.labels)):
            if place:
                given[name] = identity(place)
        return given | {
            "max_bpp": self.max_bpp,
            "target_psnr": self.target_psnr,
            "size": self.size,
            "max_pixels": self.max_pixels,
            "max_bytes": self.max_bytes,
            "image_policy": POLICY,
        }

    def known_fields(self, planned: psc_core.Profile | None = None) -> dict[str, Any]:
        """The plan's fields as far as they are known without loading the prior, which may fit the profile to itself: as
        it was done in the profile ``planned``, if that can be.
        """
        profile = self.get_profile()
        profile = profile if planned is None else _fitted_as(planned, profile)
        changed = {f"profile.{name}": value for name, value in profile.overrides().items()}
        return (
            self.params()
            | changed
            | {
                "seed": self.seed,
                "arithmetic": self.arithmetic,
                "profile.name": profile.name,
                "profile_digest": profile.digest,
                "tiers": profile.tiers,
            }
        )


def _fitted_as(planned: psc_core.Profile, profile: psc_core.Profile) -> psc_core.Profile:
    """``profile`` with the canvas and the window of ``planned``, if some prior gives it those; else as it is.

    Only the prior itself can tell whether it does: what passes here is compared again once it is loaded.
    """
    for scale in _SCALES:
        # A model of the size of the planned canvases leaves them so, however much larger the prior's is.
        found = fitted(profile, planned.canvas, scale)
        if all(getattr(found, name, None) == getattr(planned, name, None) for name in ("canvas", "window")):
            return found
    return profile


_SCALES = (1, 2, 4, 8, 16, 32)
"""Sides of an image over those of its latents, as autoencoders have them; 1 for priors of pixels."""
