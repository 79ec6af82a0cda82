"""Batches by free memory: halved when it runs out, grown where it is left, and never another byte."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import psc_core
from psc_core import memory
from psc_core.errors import OutOfMemory
from psc_core.memory import Samples, in_halves
from psc_core.priors.gaussian import GaussianPrior
from tests.psc_core.photographs import photograph

PROFILES = [
    psc_core.get_profile("archive", tiers=2, canvas=32, window=8, restore_samples=4, restore_steps=2),
    psc_core.get_profile("paper", tiers=1, canvas=32, samples=6, rows=4, steps=2, stages=1, restore_samples=6),
]
IMAGES = [photograph(name, 40, 32) for name in ("coffee", "chelsea", "rocket")]


class Small(GaussianPrior):
    """A prior on a device with memory for so many samples a call."""

    def __init__(self, most: int, **options) -> None:
        super().__init__(**options)
        self.most = most
        self.calls: list[int] = []

    def _denoise(self, x, sigma):
        self.calls.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError(f"no room for {len(x)}")
        return super()._denoise(x, sigma)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_running_out_of_memory_halves_the_batch_and_changes_no_byte(profile):
    plenty, little = Small(1000), Small(3)
    want = psc_core.encode_batch(IMAGES, plenty, profile)
    got = psc_core.encode_batch(IMAGES, little, profile)
    assert [s.to_bytes() for s in got] == [s.to_bytes() for s in want]
    assert max(plenty.calls) > 3
    shapes = 2
    assert 0 < sum(calls > 3 for calls in little.calls) <= 3 * shapes, "a number that failed is not tried again"
    pixels = psc_core.decode_batch(want, Small(1))
    for a, b in zip(pixels, psc_core.decode_batch(want, plenty), strict=True):
        assert np.array_equal(a, b)


def test_a_cpu_is_given_what_its_caches_hold():
    prior = Small(1000, device="cpu")
    prior.denoise(torch.zeros(5, 3, 256, 256), 1.0)
    assert prior.calls == [2, 2, 1]


class NoRoomForCanvases(GaussianPrior):
    """All that one call is given must fit: the state of canvases, not the network, is what is too large."""

    def _denoise(self, x, sigma):
        if len(x) > PROFILES[0].samples:
            raise OutOfMemory("even alone")
        return super()._denoise(x, sigma)


def test_canvases_are_halved_too():
    want = psc_core.encode_batch(IMAGES, GaussianPrior(), PROFILES[0])
    got = psc_core.encode_batch(IMAGES, NoRoomForCanvases(), PROFILES[0])
    assert [s.to_bytes() for s in got] == [s.to_bytes() for s in want]
    with pytest.raises(OutOfMemory, match="one canvas does not fit"):
        psc_core.encode_batch(IMAGES, Small(0), PROFILES[0])


def test_float_says_that_it_halved():
    with pytest.warns(UserWarning, match=r"6 at once and float arithmetic: going on with 3"):
        psc_core.encode(IMAGES[0], Small(4, arithmetic="float"), PROFILES[1])


def test_order_is_kept_and_what_fits_is_computed_once():
    tried = []

    def compute(some):
        tried.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError
        return [i * i for i in some]

    assert list(in_halves(range(10), compute, GaussianPrior())) == [i * i for i in range(10)]
    assert tried == [10, 5, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)], ids=["torch", "numpy"])
def test_a_real_allocation_that_fails_is_out_of_memory(allocate):
    assert memory.tried(allocate) is None
    with pytest.raises(OutOfMemory, match="this does not fit"):
        memory.fitting("this", allocate)


def test_other_errors_are_not_mistaken_for_it():
    with pytest.raises(RuntimeError, match="shape"):
        memory.tried(lambda: torch.zeros(2).view(3))


def test_a_gpu_is_filled(monkeypatch):
    """With a device whose samples take 1 MB each and 10 MB free, after a first call of 2 samples come calls of 7."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10 << 20)
    monkeypatch.setattr(memory, "measured", lambda device, compute: (out := compute(), len(out) << 20))
    calls = []

    def network(x):
        calls.append(len(x))
        return x + 1

    x = torch.arange(20.0).view(20, 1, 1, 1).expand(20, 3, 8, 8)
    exact = Samples(torch.device("cpu"), 2 * 64, free_to_grow=True)
    assert torch.equal(exact.call(network, x), x + 1)
    assert calls == [2, 7, 7, 4]
    calls.clear()
    exact.call(network, x)
    assert calls == [7, 7, 6], "what was measured is remembered"
    calls.clear()
    Samples(torch.device("cpu"), 2 * 64, free_to_grow=False).call(network, x)
    assert calls == [2] * 10, "float batches are planned by size alone"


def test_more_canvases_at_once_where_there_is_memory(monkeypatch):
    assert memory.canvas_pixels(torch.device("cpu"), 1 << 18) == 1 << 18
    monkeypatch.setattr(memory, "free_bytes", lambda device: 80 << 30)
    assert 1 << 20 < memory.canvas_pixels(torch.device("cpu"), 1 << 18) <= memory.MOST_PIXELS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_float_priors_are_bfloat16_on_a_gpu_and_of_the_same_fingerprint():
    there, here = (psc_core.load_prior("photo", arithmetic="float", device=d) for d in ("cuda", "cpu"))
    assert there._float_net.dtype == torch.bfloat16
    assert there.fingerprint == here.fingerprint
    assert "bfloat16" in there.environment
    x = torch.randn(2, 3, 64, 64)
    a, b = there.denoise(x.cuda(), 0.5).cpu(), here.denoise(x, 0.5)
    assert float((a - b).norm() / b.norm()) < 0.03
    assert there._samples.counts[64, 64] == (1 << 19) // 64**2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_runs_out_goes_on(monkeypatch):
    """A batch planned as if memory were endless."""
    prior = psc_core.load_prior("photo", device="cuda")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1 << 50)
    x = torch.randn(4, 3, 64, 64).cuda()
    want = prior.denoise(x, 0.5)
    monkeypatch.setattr(memory, "MOST_PIXELS", 1 << 40)
    many = x.repeat(4096, 1, 1, 1)
    prior._samples.counts[64, 64] = len(many)
    torch.cuda.set_per_process_memory_fraction(0.1)
    try:
        assert torch.equal(prior.denoise(many, 0.5)[-4:], want)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert prior._samples.counts[64, 64] < len(many)
