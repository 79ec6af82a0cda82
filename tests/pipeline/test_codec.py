"""Every tier of a stream, as the report's gallery asks for it."""

from __future__ import annotations

import numpy as np
import pytest

import psc_core
from pipeline.codec import Codec
from psc_core.errors import OutOfMemory, WrongPrior
from tests.psc_core.photographs import photograph

PROFILE = psc_core.get_profile("archive", tiers=3, canvas=32, window=16, samples=2, restore_samples=2, restore_steps=2)


@pytest.fixture(scope="module")
def prior():
    return psc_core.load_prior("gaussian", device="cpu")


@pytest.fixture(scope="module")
def stream(prior):
    return psc_core.encode(photograph("astronaut", 48, 40), prior, PROFILE)


def test_every_tier_costs_one_replay(stream, prior):
    calls = prior.nfe
    pictures = list(Codec().every_tier(stream, prior, "perceptual"))
    spent = prior.nfe - calls
    alone = [psc_core.decode(stream, prior, tier=tier, restore="perceptual") for tier in range(3)]
    assert np.array_equal(pictures, alone)
    assert spent < (prior.nfe - calls - spent)


@pytest.mark.parametrize("fits", [0, 2])
def test_where_the_canvases_do_not_fit_together_each_tier_is_decoded(stream, prior, monkeypatch, fits):
    replay = psc_core.replay

    def exhausted(*given):
        for tier, replayed in enumerate(replay(*given)):
            if tier == fits:
                raise OutOfMemory("full")
            yield replayed

    monkeypatch.setattr(psc_core, "replay", exhausted)
    pictures = list(Codec().every_tier(stream, prior))
    assert np.array_equal(pictures, [psc_core.decode(stream, prior, tier=tier) for tier in range(3)])


def test_another_prior_is_refused(stream):
    with pytest.raises(WrongPrior):
        next(Codec().every_tier(stream, psc_core.load_prior("photo", device="cpu")))
