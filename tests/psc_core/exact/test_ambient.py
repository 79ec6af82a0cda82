"""What callers switch on in torch and in decimal, as model code does, changes neither bytes nor pixels."""

from __future__ import annotations

import decimal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import psc_core
from psc_core.exact import transcendental
from psc_core.exact.backends import known_answer
from psc_core.exact.unet import ExactUNet
from tests.psc_core.exact.tiny import class_conditional
from tests.psc_core.photographs import photograph

IMAGE = photograph("coffee", 32, 32)
PROFILES = {
    "archive": psc_core.get_profile("archive", tiers=2, window=16, samples=2, restore_samples=2, restore_steps=2),
    "paper": psc_core.get_profile("paper", tiers=1, stages=1, steps=2, samples=3, rows=2, restore_samples=2),
    "diffc": psc_core.get_profile("diffc", tiers=2, window=16),
}


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND = {
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "another device by default": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
}


def coded(prior, profile):
    stream = psc_core.encode(IMAGE, prior, profile)
    return stream.to_bytes(), psc_core.decode(stream, prior)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", ["photo", "gaussian"])
@pytest.mark.parametrize("profile", PROFILES)
def test_bytes_and_pixels_stay(around, name, profile):
    prior = psc_core.load_prior(name, device="cpu")
    data, pixels = coded(prior, PROFILES[profile])
    with AROUND[around]():
        again, same = coded(prior, PROFILES[profile])
    assert again == data
    assert np.array_equal(same, pixels)


@pytest.mark.parametrize("around", ["bfloat16 by default", "float64 by default", "autocast", "inference mode"])
def test_the_prior_loaded_is_the_same(around):
    fingerprint = psc_core.load_prior("photo", device="cpu").fingerprint
    with AROUND[around]():
        prior = psc_core.load_prior("photo", device="cpu")
    assert prior.fingerprint == fingerprint
    again, same = coded(prior, PROFILES["archive"])
    data, pixels = coded(psc_core.load_prior("photo", device="cpu"), PROFILES["archive"])
    assert again == data
    assert np.array_equal(same, pixels)


@pytest.mark.parametrize("backend", ["native", "int_mm", "float32"])
@pytest.mark.parametrize("around", ["bfloat16 by default", "float64 by default", "another device by default"])
def test_networks_with_attention_and_known_answers_too(backend, around):
    if not known_answer(backend, "cpu"):
        pytest.skip(f"{backend} is refused here")
    net = ExactUNet(class_conditional(), "cpu", backend)
    x = torch.randn(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    want = net(x, net.embed(3.0, 1))
    net.embed.cache_clear()
    with AROUND[around]():
        got = net(x, net.embed(3.0, 1))
        known_answer.cache_clear()
        assert known_answer(backend, "cpu")
    assert torch.equal(got, want)


def test_decimal_arithmetic_is_our_own():
    values = [transcendental.exp(0.1), transcendental.ln(3.0), transcendental.power(2.5, 0.4), transcendental.erf(0.3)]
    with decimal.localcontext() as context:
        context.prec, context.rounding = 5, decimal.ROUND_UP
        context.traps[decimal.FloatOperation] = context.traps[decimal.Inexact] = True
        again = [
            transcendental.exp(0.1),
            transcendental.ln(3.0),
            transcendental.power(2.5, 0.4),
            transcendental.erf(0.3),
        ]
    assert again == values
    assert transcendental._CONTEXT.rounding == decimal.ROUND_HALF_EVEN
