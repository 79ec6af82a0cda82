"""The profile diffc through the codec: cuts, extension, restorations."""

from __future__ import annotations

import numpy as np
import pytest

import psc_core
from psc_core import errors
from psc_core.diffc.schedule import group_levels, steps_in
from tests.psc_core.photographs import photograph, psnr

SMALL = {"candidates": 10, "chunk_bits": 6, "first_steps": 6}


@pytest.fixture(scope="module")
def prior():
    return psc_core.load_prior("photo", device="cpu")


@pytest.fixture(scope="module")
def stream(prior):
    return psc_core.encode(photograph("coffee", 64, 48), prior, psc_core.get_profile("diffc", tiers=4, **SMALL))


def test_quality_rises_from_tier_to_tier(prior, stream):
    image = photograph("coffee", 64, 48)
    quality = [psnr(image, psc_core.decode(stream, prior, tier=k)) for k in range(4)]
    assert quality == sorted(quality)
    assert quality[0] > 17
    assert quality[-1] > 25
    np.testing.assert_allclose(quality, stream.report.tier_psnr, atol=0.01)  # the estimate is what is restored
    assert stream.report.nfe == 6 + 3 * 2


def test_every_step_after_the_first_tier_is_a_cut_that_decodes(prior, stream):
    image = photograph("coffee", 64, 48)
    head = stream.nbytes - sum(len(t.data) for t in stream.tiers)
    ends = [head + sum(len(t.data) for t in stream.tiers[:k]) + cut for k in range(4) for cut in stream.tiers[k].cuts]
    assert len(ends) == 8
    quality = [psnr(image, psc_core.decode(stream.truncate(max_bytes=end), prior)) for end in ends]
    assert quality[1:] == sorted(quality[1:])


def test_more_tiers_leave_the_first_ones_as_they_are(prior, stream):
    fewer = psc_core.encode(photograph("coffee", 64, 48), prior, psc_core.get_profile("diffc", tiers=2, **SMALL))
    assert stream.tiers[:2] == fewer.tiers


def test_restorations_differ_as_they_should(prior, stream):
    image = photograph("coffee", 64, 48)
    calls = {}
    quality = {}
    for how in psc_core.get_profile("diffc").restorations:
        before = prior.nfe
        pixels = psc_core.decode(stream, prior, tier=1, restore=how)
        calls[how] = prior.nfe - before
        quality[how] = psnr(image, pixels)
    assert calls == {"mean": 8, "perceptual": 23, "flow": 23, "ancestral": 48}
    assert quality["perceptual"] == quality["flow"]
    assert quality["mean"] > quality["flow"] > quality["ancestral"]


def test_flow_and_ancestral_are_diffcs_alone(prior):
    archive = psc_core.encode(photograph(), prior, psc_core.get_profile("archive", tiers=1))
    with pytest.raises(errors.InvalidProfile, match=r"restore='flow': profile 'archive' has mean, perceptual"):
        psc_core.decode(archive, prior, restore="flow")


def test_levels_fall_and_end_where_the_profile_says():
    profile = psc_core.get_profile("diffc", tiers=5, first_steps=7, steps=3)
    levels = [level for t in range(5) for g in range(3) for level in group_levels(profile, t, g)]
    assert len(levels) == steps_in(profile, 5) == 7 + 4 * 3
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == profile.first_sigma
    ends = [group_levels(profile, t, 2)[-1] for t in range(5)]
    np.testing.assert_allclose(ends, profile.sigma * profile.ratio ** np.arange(5))


@pytest.mark.parametrize(
    "change",
    [
        {"window": 12},
        {"sigma": 9.0},
        {"ratio": 1.0},
        {"tiers": 30},
        {"first_steps": 1},
        {"candidates": 30},
        {"threshold": float("nan")},
        {"chunk_bits": 2.5},
    ],
)
def test_impossible_profiles_are_refused(change):
    with pytest.raises(errors.InvalidProfile):
        psc_core.get_profile("diffc", **change)
