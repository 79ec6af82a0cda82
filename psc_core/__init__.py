"""PSC: image compression by posterior sampling with a pre-trained diffusion model.

The public names are loaded when first used, so that tools which only move stored bytes (truncating, querying)
never import torch.

    >>> import psc_core
    >>> prior = psc_core.load_prior("photo")                      # doctest: +SKIP
    >>> stream = psc_core.encode(image, prior)                    # doctest: +SKIP
    >>> psc_core.decode(stream.truncate(tier=1), prior)           # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "encode": "codec",
    "encode_batch": "codec",
    "decode": "codec",
    "decode_batch": "codec",
    "decode_to_model": "codec",
    "replay": "replayed",
    "load_prior": "priors",
    "Prior": "priors.base",
    "Profile": "profiles",
    "get_profile": "profiles",
    "Stream": "coding.container",
    "Tier": "coding.container",
    "SharedHeader": "coding.container",
    "EncodeReport": "coding.container",
    "CorruptStream": "errors",
    "CutStream": "errors",
    "InvalidCondition": "errors",
    "InvalidImage": "errors",
    "InvalidPrior": "errors",
    "InvalidProfile": "errors",
    "NotAStream": "errors",
    "OutOfMemory": "errors",
    "PriorNotFound": "errors",
    "PscError": "errors",
    "StateGone": "errors",
    "StateMismatch": "errors",
    "StreamError": "errors",
    "TierOutOfRange": "errors",
    "UnknownProfile": "errors",
    "UnknownVersion": "errors",
    "WrongArithmetic": "errors",
    "WrongPrior": "errors",
}
__all__ = [
    "CorruptStream",
    "CutStream",
    "EncodeReport",
    "InvalidCondition",
    "InvalidImage",
    "InvalidPrior",
    "InvalidProfile",
    "NotAStream",
    "OutOfMemory",
    "Prior",
    "PriorNotFound",
    "Profile",
    "PscError",
    "SharedHeader",
    "StateGone",
    "StateMismatch",
    "Stream",
    "StreamError",
    "Tier",
    "TierOutOfRange",
    "UnknownProfile",
    "UnknownVersion",
    "WrongArithmetic",
    "WrongPrior",
    "decode",
    "decode_batch",
    "decode_to_model",
    "encode",
    "encode_batch",
    "get_profile",
    "load_prior",
    "replay",
]

if TYPE_CHECKING:
    from psc_core.codec import decode, decode_batch, decode_to_model, encode, encode_batch
    from psc_core.coding.container import EncodeReport, SharedHeader, Stream, Tier
    from psc_core.errors import (
        CorruptStream,
        CutStream,
        InvalidCondition,
        InvalidImage,
        InvalidPrior,
        InvalidProfile,
        NotAStream,
        OutOfMemory,
        PriorNotFound,
        PscError,
        StateGone,
        StateMismatch,
        StreamError,
        TierOutOfRange,
        UnknownProfile,
        UnknownVersion,
        WrongArithmetic,
        WrongPrior,
    )
    from psc_core.priors import load_prior
    from psc_core.priors.base import Prior
    from psc_core.profiles import Profile, get_profile
    from psc_core.replayed import replay


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'psc_core' has no attribute {name!r}")
    return getattr(import_module(f"psc_core.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
