"""The exact network beside the float one that it was converted from."""

from __future__ import annotations

import pytest
import torch

import psc_core
from psc_core.exact import noise
from tests.psc_core.photographs import photograph


@pytest.mark.parametrize(("sigma", "bound"), [(0.05, 0.08), (0.5, 0.025), (3.0, 0.005)])
def test_outputs_are_near_the_float_models(sigma, bound):
    """Relative RMS of what denoising changes (measured: 0.052, 0.015, 0.0023), not hidden behind what it keeps."""
    exact, plain = (psc_core.load_prior("photo", arithmetic=a, device="cpu") for a in ("exact", "float"))
    clean = exact.to_model(photograph("coffee", 32, 32))[None]
    noisy = clean + noise.normal(noise.NoiseKey(3, 0, 0, 0, 0), range(1), (3, 32, 32)) * sigma
    a, b = (p.denoise(noisy, sigma).double() - noisy.double() for p in (exact, plain))
    assert float((a - b).norm() / b.norm()) < bound
    assert not torch.equal(a, b)


def test_a_sample_has_the_same_bits_alone_and_in_company():
    exact = psc_core.load_prior("photo", device="cpu")
    x = noise.normal(noise.NoiseKey(4, 0, 0, 0, 0), range(3), (3, 32, 32)) * 2
    x[1] *= 40
    together = exact.denoise(x, 1.5)
    for k in range(3):
        assert torch.equal(exact.denoise(x[k : k + 1], 1.5)[0], together[k])
