"""Every profile encodes and decodes under the guard, and the guard catches what it is there for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import psc_core
from psc_core.exact.backends import get_backend, known_answer
from psc_core.exact.guard import ExactGuard, NotExact
from psc_core.exact.unet import ExactUNet
from psc_core.profiles import profile_names
from tests.psc_core.exact import tiny
from tests.psc_core.photographs import photograph

SMALL = {
    "archive": {"tiers": 2, "samples": 2, "restore_samples": 2, "restore_steps": 1, "perceptual_steps": 2},
    "diffc": {"tiers": 2, "candidates": 6, "chunk_bits": 4, "first_steps": 3, "steps": 1, "window": 8},
    "paper": {"samples": 3, "rows": 2, "steps": 2, "stages": 1, "tiers": 2, "restore_samples": 2},
    "paper-latent": {"samples": 3, "rows": 2, "steps": 2, "stages": 1, "tiers": 2, "restore_samples": 2},
}
TORCH_BACKENDS = ("float32", "int_mm")


def test_every_profile_has_a_small_form_here():
    assert set(profile_names()) == set(SMALL)


@pytest.mark.parametrize("profile", SMALL)
@pytest.mark.parametrize("prior", ["gaussian", "photo"])
def test_encoding_and_decoding_run_exact_operators_alone(prior, profile, monkeypatch):
    monkeypatch.setenv("PSC_EXACT_BACKEND", "float32")
    get_backend.cache_clear()
    loaded = psc_core.load_prior(prior, device="cpu")
    image = photograph("coffee", 16, 16)
    with ExactGuard() as guard:
        stream = psc_core.encode(image, loaded, psc_core.get_profile(profile, **SMALL[profile]))
        guarded = psc_core.decode(stream, loaded)
        if profile in ("archive", "diffc"):
            psc_core.decode(stream, loaded, restore="perceptual")
    get_backend.cache_clear()
    assert guard.seen["mm"] + guard.seen["bmm"] > 20
    np.testing.assert_array_equal(guarded, psc_core.decode(stream, loaded))


def test_several_canvases_restored_together_are_exact():
    prior = psc_core.load_prior("gaussian", device="cpu")
    profile = psc_core.get_profile("archive", canvas=32, **SMALL["archive"])
    with ExactGuard():
        stream = psc_core.encode(photograph("coffee", 40, 20), prior, profile)
        for restore in ("mean", "perceptual"):
            psc_core.decode(stream, prior, restore=restore)


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
@pytest.mark.parametrize("build", [tiny.class_conditional, tiny.conditional])
def test_attention_and_every_block_are_exact_on_every_torch_backend(build, backend):
    if not known_answer(backend):
        pytest.skip(f"{backend} fails its known-answer test on this CPU, so it never runs here")
    model = build()
    net = ExactUNet(model, backend=backend)
    channels = model.config.in_channels
    x = torch.linspace(-1, 1, 2 * 8 * 8 * channels).view(2, 8, 8, channels)
    context = torch.linspace(-2, 2, 2 * 5 * 48).view(2, 1, 5, 48) if build is tiny.conditional else None
    label = None if build is tiny.conditional else 3
    with ExactGuard() as guard:
        net(x, net.embed(3.0, label), context)
    assert guard.seen["convolution"] + guard.seen["mm"] + guard.seen["_int_mm"] > 5
    assert guard.seen["bmm"] > 5


HALVES = torch.linspace(-1, 1, 600)
BIG = torch.full((2, 2**12), 2.0**13)


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        (lambda: HALVES.exp(), "exp"),
        (lambda: torch.nn.functional.silu(HALVES), "silu"),
        (lambda: HALVES.softmax(0), "softmax"),
        (lambda: torch.randn(3), "randn"),
        (lambda: torch.linalg.eigh(torch.eye(3)), "eigh"),
        (lambda: HALVES.sum(), "order"),
        (lambda: HALVES.double().sum() / 3, "order"),
        (lambda: HALVES.mean(), "mean"),
        (lambda: HALVES.view(20, 30) @ HALVES.view(30, 20), "order"),
        (lambda: BIG @ torch.ones(2**12, 2), "2\\^24"),
        (lambda: BIG.double() @ (BIG.T.double() * 2.0**20), "2\\^53"),
        (lambda: torch.nn.functional.conv2d(HALVES.view(1, 6, 10, 10), torch.ones(2, 6, 3, 3) / 3), "order"),
        (lambda: torch.nn.functional.group_norm(HALVES.view(1, 6, 10, 10), 2), "native_group_norm"),
        (lambda: torch.add(HALVES, HALVES, alpha=3), "alpha"),
        (lambda: torch.addcmul(HALVES, HALVES, HALVES), "addcmul"),
        (lambda: HALVES**2.15, "pow"),
        (lambda: HALVES.half().round().sum(), "float16"),
    ],
)
def test_what_is_planted_is_caught(planted, words):
    with pytest.raises(NotExact, match=words), ExactGuard():
        planted()


def test_a_violation_inside_a_stage_is_caught(monkeypatch):
    from psc_core.archive import canvases

    prior = psc_core.load_prior("gaussian", device="cpu")
    profile = psc_core.get_profile("archive", **SMALL["archive"])
    monkeypatch.setattr(canvases, "_image_mean", lambda samples: samples.mean(dim=1))
    with pytest.raises(NotExact, match="mean"), ExactGuard():
        psc_core.encode(photograph("coffee", 16, 16), prior, profile)


def test_whole_numbers_may_be_summed_and_multiplied():
    ints = (HALVES * 255).round()
    with ExactGuard() as guard:
        assert ints.sum() == ints.double().sum()
        (ints.view(20, 30) @ ints.view(30, 20)).sum()
        torch.matmul(ints.view(20, 30).double() * 2.0**-14, ints.view(30, 20).double())
    assert guard.seen["mm"] == 2
