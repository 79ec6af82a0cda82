"""What differs between a plan and what is asked for now, in the words in which it was asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from psc_core.profiles import get_profile, profile_names

_OPTIONS = {
    "profile.name": "--profile",
    "prior_name": "--prior",
    "prior_fingerprint": "--prior, by its prior_fingerprint:",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *("tiers", "size", "max_bpp", "target_psnr", "seed", "arithmetic", "captions", "labels", "captioner"),
        *("max_pixels", "tier", "bpp", "restore", "ids", "format"),
    )
}
_DIGESTS = ("profile_digest", "prior_fingerprint", "parent")
"""They differ because something else does; alone they are all that there is to say."""
_SHA256 = re.compile("[0-9a-f]{64}")


def differences(planned: dict[str, Any], now: dict[str, Any], names: Iterable[str]) -> list[str]:
    """A line for each of the fields that differ, those first that are options of the command."""
    absent = object()
    differing = [name for name in names if planned.get(name, absent) != now.get(name, absent)]
    if "tiers" in differing:
        differing = [name for name in differing if name != "profile.tiers"]
    said = [name for name in differing if name not in _DIGESTS] or differing
    return [
        f"{_OPTIONS.get(name, name)} {_show(planned, name)} planned, {_show(now, name)} given"
        for name in sorted(said, key=lambda name: (name not in _OPTIONS, name))
    ]


def _show(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None and name.startswith("profile.") and fields.get("profile.name") in profile_names():
        # Of a profile's fields only those that were changed are written down.
        value = getattr(get_profile(fields["profile.name"]), name.removeprefix("profile."), None)
    if name in ("captions", "labels") and _SHA256.fullmatch(str(value)):
        return f"a file of sha256 {str(value)[:12]}…"
    return "none" if value is None else str(value)
