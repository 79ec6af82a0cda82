"""A profile as it suits a model: canvases that the model knows, and windows that its space takes."""

from __future__ import annotations

import math

from psc_core.profiles import Profile, get_profile

_WIDEST = 64


def fitted(profile: Profile, native_size: int | None, scale: int = 1) -> Profile:
    """The profile as it suits a model: canvases no larger than a model that knows one size alone, in whole windows.

    In a space of 1/scale of the side, windows are no wider than 64 pixels, and canvases of the model's own size unless
    a smaller one was asked for: see :func:`_fitted_to_latents`.
    """
    if scale > 1:
        return _fitted_to_latents(profile, native_size or profile.canvas, scale)
    if native_size is None or native_size >= profile.canvas:
        return profile
    window = getattr(profile, "window", 1)
    return get_profile(profile, canvas=max(native_size // window * window, window, 16))


def _fitted_to_latents(profile: Profile, native_size: int, scale: int) -> Profile:
    fields = {}
    widest = max(min(_WIDEST, native_size) // scale, 4)
    if (window := getattr(profile, "window", 1)) > widest:
        fields["window"] = window = 1 << widest.bit_length() - 1
    unit = math.lcm(window * scale, 16)  # inner borders then lie between latents
    wanted = native_size if profile.canvas == get_profile(profile.name).canvas else min(profile.canvas, native_size)
    return get_profile(profile, canvas=max(wanted // unit * unit, unit), **fields)
