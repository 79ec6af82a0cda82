"""CUDA gives the CPU's bits: kernels, denoiser, streams and pixels, both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import psc_core
from psc_core.exact import fixed
from psc_core.exact.backends import backend_names, get_backend, known_answer
from psc_core.exact.unet import ExactUNet
from tests.psc_core.exact import tiny
from tests.psc_core.photographs import photograph

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]
SMALL = {
    "archive": {"tiers": 2, "restore_samples": 2, "restore_steps": 1},
    "diffc": {"tiers": 2, "candidates": 8, "chunk_bits": 5, "first_steps": 3},
    "paper": {"samples": 4, "rows": 3, "steps": 3, "stages": 1, "tiers": 2, "restore_samples": 2},
}


@pytest.mark.parametrize("backend", backend_names("cuda"))
@pytest.mark.parametrize("tf32", [False, True])
def test_every_backend_gives_the_known_answers(backend, tf32, monkeypatch):
    """8-bit integers are whole in TF32 too, so the setting must not matter."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    known_answer.cache_clear()
    assert known_answer(backend, "cuda")


def test_whole_products_in_float64():
    a = (torch.arange(40 * 300).view(40, 300) * 40503 % 2**20).double()
    assert torch.equal(fixed.matmul(a, a.T), fixed.matmul(a.cuda(), a.T.cuda()).cpu())


@pytest.mark.parametrize("backend", backend_names("cuda"))
@pytest.mark.parametrize("build", [tiny.class_conditional, tiny.conditional])
def test_networks_agree_with_the_cpu(build, backend):
    model = build()
    channels = model.config.in_channels
    x = torch.linspace(-1, 1, 2 * 16 * 16 * channels).view(2, 16, 16, channels)
    context = torch.linspace(-2, 2, 2 * 5 * 48).view(2, 1, 5, 48) if build is tiny.conditional else None
    label = None if build is tiny.conditional else 3
    outputs = []
    for device, name in (("cpu", "float32"), ("cuda", backend)):
        net = ExactUNet(model, device, name)
        text = None if context is None else context.to(device)
        outputs.append(net(x.to(device), net.embed(3.0, label), text).cpu())
    assert torch.equal(*outputs)


@pytest.mark.parametrize("profile", SMALL)
@pytest.mark.parametrize("prior", ["gaussian", "photo"])
def test_streams_cross_between_devices(prior, profile):
    get_backend.cache_clear()
    there, here = (psc_core.load_prior(prior, device=device) for device in ("cuda", "cpu"))
    image, chosen = photograph("coffee", 48, 40), psc_core.get_profile(profile, **SMALL[profile])
    from_there, from_here = (psc_core.encode(image, p, chosen) for p in (there, here))
    assert from_there.to_bytes() == from_here.to_bytes()
    np.testing.assert_array_equal(psc_core.decode(from_there, here), psc_core.decode(from_here, there))
