"""Golden streams: what was written once must decode to the same pixels for ever.

After a deliberate change of format, profile or bundled prior, PSC_REGENERATE_GOLDEN=1 with this file writes them anew;
say in the commit why the old ones may not decode any more.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

import psc_core
from psc_core.errors import UnknownVersion
from tests.psc_core.photographs import photograph, psnr

GOLDEN = Path(__file__).parent.parent / "golden"
PAPER = {"samples": 6, "rows": 5, "steps": 5, "stages": 2, "tiers": 2, "restore_samples": 4}
DIFFC = {"tiers": 3, "candidates": 12, "chunk_bits": 8, "first_steps": 6}
CASES = {
    "photo-archive": ("photo", "archive", {"tiers": 4}, ("coffee", 48, 32)),
    "photo-paper": ("photo", "paper", PAPER, ("astronaut", 32, 32)),
    "photo-diffc": ("photo", "diffc", DIFFC, ("rocket", 48, 40)),
    "gaussian-diffc": ("gaussian", "diffc", DIFFC | {"canvas": 32}, ("coffee", 40, 20)),
    "gaussian-archive": ("gaussian", "archive", {"tiers": 3, "canvas": 32}, ("chelsea", 40, 33)),
    "gaussian-windows": ("gaussian", "archive", {"tiers": 3, "window": 8}, ("coffee", 40, 33)),
    "gaussian-paper": ("gaussian", "paper", PAPER, ("camera", 17, 23)),
}


@pytest.mark.parametrize("name", CASES)
def test_golden_streams_decode_to_the_same_pixels(name):
    prior_name, profile, overrides, shot = CASES[name]
    prior = psc_core.load_prior(prior_name, device="cpu")
    image, path = photograph(*shot), GOLDEN / f"{name}.psc"
    encoded = psc_core.encode(image, prior, psc_core.get_profile(profile, **overrides))
    if os.environ.get("PSC_REGENERATE_GOLDEN"):
        hashes = _hashes(encoded, prior)
        _check_meaning(path, encoded, hashes)
        path.write_bytes(encoded.to_bytes())
        path.with_suffix(".json").write_text(json.dumps(hashes, indent=1) + "\n")
    stored = psc_core.Stream.from_bytes(path.read_bytes())
    assert _hashes(stored, prior) == json.loads(path.with_suffix(".json").read_text())
    assert encoded == stored, "encoding gives other bytes than the release that wrote the golden stream"
    if prior_name == "photo" and profile == "archive":
        assert psnr(image, psc_core.decode(stored, prior)) > 20


@pytest.mark.parametrize("name", ["gaussian-archive", "gaussian-paper", "gaussian-diffc"])
def test_golden_streams_need_no_range_coding_library(name, monkeypatch):
    monkeypatch.setattr("psc_core.coding.range_coder.LIBRARY", None)
    test_golden_streams_decode_to_the_same_pixels(name)


def _check_meaning(path: Path, encoded: psc_core.Stream, hashes: dict[str, str]) -> None:
    """A header that the release still reads may not stand before other bytes, nor they mean other pixels."""
    try:
        old = psc_core.Stream.from_bytes(path.read_bytes())
    except (UnknownVersion, FileNotFoundError):
        return
    if old.shared == encoded.shared:
        same = (old.tiers, json.loads(path.with_suffix(".json").read_text())) == (encoded.tiers, hashes)
        assert same, "the same profile and prior, but other bytes or pixels: raise the profile's revision"


def _hashes(stream: psc_core.Stream, prior: psc_core.Prior) -> dict[str, str]:
    """sha256 of the pixels of each tier, and of other restorations that are exact."""
    pixels = {f"tier {k}": psc_core.decode(stream, prior, tier=k) for k in range(len(stream.tiers))}
    exact = stream.shared.profile.restorations[1 if stream.shared.profile.name == "archive" else 2 :]
    pixels |= {how: psc_core.decode(stream, prior, restore=how) for how in exact}
    return {tier: hashlib.sha256(p.tobytes()).hexdigest() for tier, p in pixels.items()}
