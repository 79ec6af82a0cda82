"""All tiers of a stream from one replay: the pictures that decoding each alone gives."""

from __future__ import annotations

import numpy as np
import pytest

import psc_core
from psc_core.errors import InvalidProfile, OutOfMemory, StateGone, WrongPrior
from tests.psc_core.photographs import photograph

ARCHIVE = {"tiers": 3, "canvas": 32, "window": 16, "samples": 2, "restore_samples": 2, "restore_steps": 2}
PROFILES = {
    "one canvas": psc_core.get_profile("archive", **{**ARCHIVE, "canvas": 64}),
    "canvases": psc_core.get_profile("archive", **ARCHIVE),
    "paper": psc_core.get_profile("paper", tiers=2, canvas=32, samples=3, rows=2, stages=1, steps=2, restore_samples=2),
    "diffc": psc_core.get_profile("diffc", tiers=2, canvas=32, window=16),
}


@pytest.fixture(scope="module")
def prior():
    return psc_core.load_prior("gaussian", device="cpu")


@pytest.fixture(scope="module", params=PROFILES)
def stream(request, prior):
    return psc_core.encode(photograph("astronaut", 48, 40), prior, PROFILES[request.param])


def test_every_tier_is_as_decoded_alone(stream, prior):
    tiers = []
    for state in psc_core.replay(stream, prior):
        tiers.append(state.tier)
        assert np.array_equal(state.restore(), psc_core.decode(stream, prior, tier=state.tier))
    assert tiers == list(range(len(stream.tiers)))


def test_one_state_is_restored_in_several_ways(prior):
    stream = psc_core.encode(photograph("coffee", 40, 40), prior, PROFILES["canvases"])
    for state in psc_core.replay(stream, prior):
        for how in ("perceptual", "mean"):
            assert np.array_equal(state.restore(how), psc_core.decode(stream, prior, tier=state.tier, restore=how))


def test_the_network_is_called_once_a_stage(prior):
    stream = psc_core.encode(photograph("coffee", 32, 32), prior, PROFILES["one canvas"])
    calls = prior.nfe
    for _ in psc_core.replay(stream, prior):
        pass
    assert prior.nfe - calls == stream.report.nfe


def test_a_budget_that_ends_between_canvases(prior):
    stream = psc_core.encode(photograph("astronaut", 48, 40), prior, PROFILES["canvases"])
    cut = stream.truncate(max_bytes=stream.truncate(tier=1).nbytes - 4)
    assert 0 < len(cut.tiers[1].chunks) < cut.canvases
    *_, last = (state.restore() for state in psc_core.replay(cut, prior))
    assert np.array_equal(last, psc_core.decode(cut, prior))


def test_grey_stays_grey(prior):
    stream = psc_core.encode(photograph("coffee", 32, 32)[:, :, :1], prior, PROFILES["one canvas"])
    assert next(psc_core.replay(stream, prior)).restore().shape == (32, 32, 1)


def test_another_prior_and_an_unknown_restoration_are_refused(prior):
    stream = psc_core.encode(photograph("coffee", 32, 32), prior, PROFILES["one canvas"])
    with pytest.raises(WrongPrior):
        next(psc_core.replay(stream, psc_core.load_prior("photo", device="cpu")))
    with pytest.raises(InvalidProfile, match="flow"):
        next(psc_core.replay(stream, prior)).restore("flow")


def test_a_tier_that_was_left_is_not_restored_as_another(prior):
    stream = psc_core.encode(photograph("coffee", 32, 32), prior, PROFILES["one canvas"])
    first, second, _ = psc_core.replay(stream, prior)
    for state in (first, second):
        with pytest.raises(StateGone, match=f"tier {state.tier}: the replay is at tier 2"):
            state.restore()


def test_running_out_of_memory_is_a_typed_error(prior, monkeypatch):
    stream = psc_core.encode(photograph("coffee", 32, 32), prior, PROFILES["one canvas"])

    def exhausted(*_):
        raise OutOfMemory("full")

    monkeypatch.setattr(psc_core.Prior, "denoise", exhausted)
    with pytest.raises(OutOfMemory, match=r"psc_core\.decode takes less"):
        next(psc_core.replay(stream, prior))
