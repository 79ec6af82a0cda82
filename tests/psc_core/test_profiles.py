"""Profiles: what cannot be is refused by name, what can be encodes and decodes, and digests stay what they are."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import psc_core
from psc_core.errors import InvalidProfile
from psc_core.exact.guard import ExactGuard
from psc_core.paper.sensing import adasense_rows
from psc_core.profiles import ArchiveProfile, get_profile
from tests.psc_core.photographs import photograph

NAN, INF = float("nan"), float("inf")
FLOATS = [f.name for f in dataclasses.fields(ArchiveProfile) if f.type == "float"]
SMALL = {"window": 8, "canvas": 16, "samples": 2, "restore_samples": 2}
STEPS = st.integers(1, 3)
SHARES = st.floats(0, 1)
HEATS = st.floats(0.5, 16) | st.floats(1e-6, 16)
VALID = st.fixed_dictionaries(
    {"tiers": st.integers(1, 3)},
    optional={
        **dict.fromkeys(["eta", "restore_eta", "perceptual_eta", "refine_floor"], SHARES),
        **dict.fromkeys(["first_steps", "steps", "restore_steps", "perceptual_steps"], STEPS),
        **dict.fromkeys(["first_heat", "heat", "restore_heat", "perceptual_heat"], HEATS),
        **dict.fromkeys(["cold", "restore_cold", "perceptual_cold"], st.floats(1e-6, 0.5)),
        "step": st.floats(1e-6, 64),
        "ratio": st.floats(1e-6, 1),
        "first_step": st.floats(1e-6, 16),
        "shrink": st.floats(0, 1e9),
        "threshold": st.floats(0, 1e6),
        "dead_zone": st.floats(0, 16),
        "dead_zone_far": st.floats(0, 16),
        "inset": st.floats(0, 0.5, exclude_max=True),
        "restore_orientations": st.sampled_from([1, 2, 4]),
        "law": st.sampled_from(["laplace", "gauss", "logistic", "mixed"]),
    },
)


@pytest.mark.parametrize("value", [NAN, INF, -INF, -1e-9, 1e300, 10**400, "0.5", None, True], ids=lambda v: repr(v)[:8])
@pytest.mark.parametrize("field", FLOATS)
def test_what_no_number_of_archive_can_be(field, value):
    said = rf"^{field}={re.escape(repr(value))}: expected a number from \S+ to (below )?\S+$"
    with pytest.raises(InvalidProfile, match=said):
        get_profile("archive", **{field: value})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eta": 1.5}, "eta=1.5: expected a number from 0 to 1"),
        ({"restore_eta": 1.0001}, "restore_eta=1.0001: expected a number from 0 to 1"),
        ({"perceptual_eta": 2}, "perceptual_eta=2.0: expected a number from 0 to 1"),
        ({"inset": 0.5}, "inset=0.5: expected a number from 0 to below 0.5"),
        ({"step": 0.0}, "step=0.0: expected a number from 1e-06 to 64"),
        ({"cold": 0}, "cold=0.0: expected a number from 1e-06 to 16"),
        ({"cold": 0.9}, "cold=0.9: expected at most first_heat=0.8"),
        ({"heat": 0.05, "steps": 2}, "cold=0.1: expected at most heat=0.05"),
        ({"restore_cold": 0.6}, "restore_cold=0.6: expected at most restore_heat=0.5"),
        ({"restore_orientations": 3}, "restore_orientations=3: expected 1, 2 or 4"),
        ({"restore_orientations": 0}, "restore_orientations=0: expected a whole number of at least 1"),
        ({"perceptual_heat": 0.01}, "perceptual_cold=0.02: expected at most perceptual_heat=0.01"),
        ({"ratio": 1.5}, "ratio=1.5: expected a number from 1e-06 to 1"),
        ({"ratio": 1e-3}, "the finest step is 2.4e-15, expected at least 1e-06"),
        ({"tiers": 40}, "tiers=40: the finest step is"),
        ({"tiers": 10**400}, "expected at least 1e-06"),
        ({"step": 1e-5, "first_step": 0.01}, "the finest step is"),
    ],
)
def test_what_archive_refuses(changes, said):
    with pytest.raises(InvalidProfile) as caught:
        get_profile("archive", **changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("paper", {"eta": 1.5}, "eta=1.5"),
        ("paper-latent", {"eta": "1"}, "eta='1'"),
        ("diffc", {"sigma": "1"}, "sigma='1'"),
        ("diffc", {"threshold": NAN}, "threshold=nan"),
        ("diffc", {"ratio": None}, "ratio=None"),
        ("diffc", {"first_sigma": INF}, "first_sigma=inf"),
    ],
)
def test_what_the_others_refuse(name, changes, said):
    with pytest.raises(InvalidProfile, match=said):
        get_profile(name, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"shrink": 0.01},
        {"shrink": 10000.0},
        {"shrink": 0},
        {"threshold": 0.5},
        {"threshold": 0},
        {"dead_zone": 0.5},
        {"dead_zone": 0.0},
        {"dead_zone_far": 0.0},
        {"dead_zone": 0.0, "dead_zone_far": 0.0},
        {"inset": 0.0},
        {"eta": 1.0},
        {"eta": 1},
        {"ratio": 0.2, "heat": 0.2},
        {"ratio": 1},
        {"heat": 0.05, "steps": 1},
        {"step": 1.0, "tiers": 1},
        {"tiers": 20},
        {"cold": 0.8},
    ],
    ids=str,
)
def test_what_archive_takes(changes):
    profile = get_profile("archive", **changes)
    assert {name: getattr(profile, name) for name in changes} == changes


def test_the_profiles_of_the_results_are_valid():
    root, found = Path(__file__).parents[2] / "results", 0
    for path in root.glob("*.json"):
        abouts = json.loads(path.read_text())
        for about in _profiles(abouts):
            fields = {name: value for name, value in about.items() if name not in ("name", "codec")}
            get_profile(about["name"], **fields)
            found += 1
    assert found > 10


def _profiles(value):
    """Every profile, written out or as overrides, anywhere in a record."""
    if isinstance(value, dict):
        given = value.get("profile")
        if isinstance(given, dict) and "name" in given:
            yield given
        for part in value.values():
            yield from _profiles(part)
    elif isinstance(value, list):
        for part in value:
            yield from _profiles(part)


def _possible(changes):
    """None where fields that are possible one by one are not together."""
    try:
        return get_profile("archive", **SMALL, **changes)
    except InvalidProfile:
        return None


@settings(max_examples=40, deadline=None)
@given(VALID)
def test_what_is_valid_encodes_and_decodes(changes):
    prior = psc_core.load_prior("gaussian")
    profile = _possible(changes)
    assume(profile is not None)
    image = photograph("chelsea", 13, 9)
    stream = psc_core.encode(image, prior, profile)
    again = psc_core.Stream.from_bytes(stream.to_bytes())
    for how in profile.restorations:
        assert psc_core.decode(again, prior, restore=how).shape == image.shape


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 64.0, "first_heat": 16.0, "heat": 16.0, "perceptual_heat": 16.0, "first_step": 16.0, "tiers": 1},
        {"step": 1e-6, "first_step": 1.0, "tiers": 1, "cold": 1e-6, "restore_cold": 1e-6, "perceptual_cold": 1e-6},
        {"dead_zone": 0.0, "dead_zone_far": 0.0, "threshold": 0.0, "shrink": 0.0, "tiers": 3},
    ],
    ids=["coarsest", "finest", "everything measured"],
)
def test_the_ends_of_the_ranges_on_a_network(changes):
    prior = psc_core.load_prior("photo")
    profile = get_profile("archive", **SMALL, first_steps=2, restore_steps=2, perceptual_steps=2, **changes)
    image = photograph("coffee", 16, 11)
    stream = psc_core.Stream.from_bytes(psc_core.encode(image, prior, profile).to_bytes())
    for how in profile.restorations:
        assert np.isfinite(psc_core.decode(stream, prior, restore=how)).all()


@pytest.mark.parametrize(("name", "field"), [("archive", "shrink"), ("paper", "eta"), ("diffc", "first_sigma")])
def test_a_whole_number_for_a_float_is_the_same_profile(name, field):
    registered = psc_core.get_profile(name)
    value = int(getattr(registered, field))
    assert float(value) == getattr(registered, field)
    for profile in (psc_core.get_profile(name, **{field: value}), type(registered)(**{field: value})):
        assert profile.digest == registered.digest
        header = psc_core.SharedHeader(profile=profile, prior_name="x", prior_fingerprint="00" * 16)
        assert psc_core.SharedHeader.from_json(header.to_json()) == header


def test_sums_over_the_largest_canvas_of_paper_are_exact():
    with pytest.raises(InvalidProfile, match="canvas=848: expected at most 832"):
        get_profile("paper", canvas=848)
    width = 3 * get_profile("paper", canvas=832).canvas ** 2
    saturated = torch.full((1, 3, width), 8.0) * torch.tensor([1.0, -1.0, 1.0])[:, None]
    with ExactGuard():
        rows = adasense_rows(saturated, torch.zeros(1, 0, width, dtype=torch.float64), 1)
    assert rows.shape == (1, 1, width)
