"""A prior goes through pickle, and computes where it is read with the backend that is best there."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import psc_core
from psc_core.exact import backends
from tests.psc_core.photographs import photograph

SMALL = psc_core.get_profile("archive", tiers=1, canvas=32, window=16, restore_samples=2, restore_steps=1)


@pytest.mark.parametrize("name", ["gaussian", "photo"])
def test_a_prior_that_was_pickled_gives_the_same_bytes(name):
    prior = psc_core.load_prior(name, device="cpu")
    stream = psc_core.encode(photograph(), prior, SMALL)
    again = pickle.loads(pickle.dumps(prior))
    assert again.fingerprint == prior.fingerprint
    assert again.nfe == prior.nfe > 0
    assert psc_core.encode(photograph(), again, SMALL) == stream
    assert np.array_equal(psc_core.decode(stream, again), psc_core.decode(stream, prior))


@pytest.mark.parametrize("backend", ["float32", "int_mm", "native_portable"])
def test_where_it_is_read_another_backend_may_be_the_best(monkeypatch, backend):
    if not backends.known_answer(backend):
        pytest.skip(f"{backend} is not right here")
    prior = psc_core.load_prior("photo", device="cpu")
    stream = psc_core.encode(photograph(), prior, SMALL)
    raw = pickle.dumps(prior)
    monkeypatch.setenv(backends.VARIABLE, backend)
    backends.get_backend.cache_clear()
    try:
        again = pickle.loads(raw)
        back = pickle.dumps(again)
    finally:
        monkeypatch.undo()
        backends.get_backend.cache_clear()
    assert again.backend == backend
    assert psc_core.encode(photograph(), again, SMALL) == stream
    assert pickle.loads(back).backend == prior.backend
