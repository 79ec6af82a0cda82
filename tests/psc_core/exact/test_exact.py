"""Exact arithmetic: backends agree bit for bit, and stay near float."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import psc_core
from psc_core.errors import InvalidPrior, PscError
from psc_core.exact import jacobi, noise, transcendental
from psc_core.exact.backends import backend_names, get_backend, known_answer
from psc_core.exact.integers import QuantizedWeight, quantize_weight
from psc_core.exact.torch_backends import Float32MM
from psc_core.exact.unet import ExactUNet
from tests.psc_core.photographs import photograph, psnr

USABLE = [name for name in backend_names() if known_answer(name)]


def test_the_reference_backend_is_always_usable():
    assert "float32" in USABLE


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(*(st.integers(1, n) for n in (3, 9, 9))),
    channels=st.sampled_from([1, 3, 4, 12, 24, 40]),
    outputs=st.sampled_from([1, 5, 16, 33, 48]),
    kernel=st.sampled_from([(1, 0), (3, 1)]),
    stride=st.sampled_from([1, 2]),
    silu=st.booleans(),
)
def test_backends_give_the_same_bits(seed, shape, channels, outputs, kernel, stride, silu):
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.randint(-3, 3, (1,), generator=generator).item()
    x = torch.randn(*shape, channels, generator=generator) * scale
    x[0] *= torch.randint(0, 2, (1,), generator=generator)  # sometimes a sample of zeros
    size, pad = kernel
    weight = quantize_weight(
        torch.randn(outputs, channels, size, size, generator=generator),
        torch.randn(outputs, generator=generator),
        stride,
        pad,
    )
    gamma, beta = (torch.randn(channels, generator=generator).double() for _ in range(2))
    groups = channels // 4 if channels % 4 == 0 else 1
    results = []
    for name in USABLE:
        backend = get_backend("cpu", name)
        plain = backend.conv(backend.quantize(x), weight)
        q = backend.norm_quantize(x, gamma, beta, groups, 1e-5, silu)
        residual = backend.conv(q, weight, residual_NHWC=plain)
        high, low = backend.quantize_finely(x)
        up = backend.conv(backend.upsample(high), weight)
        results.append((plain, residual, backend.conv(low, weight), up))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_a_wrong_backend_is_found_out(monkeypatch):
    from psc_core.exact import backends

    class Saturating(Float32MM):
        name = "saturating"

        def product(self, a, b):
            return (a @ b).clamp(-32768, 32767)

    monkeypatch.setitem(backends._CPU, "saturating", Saturating)
    assert not backends.known_answer("saturating")
    with pytest.raises(PscError, match="known-answer"):
        backends.get_backend("cpu", "saturating")


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_exact_denoising_costs_little(sigma):
    exact, plain = (psc_core.load_prior("photo", arithmetic=a, device="cpu") for a in ("exact", "float"))
    image = photograph("coffee", 64, 64)
    x = exact.to_model(image)[None]
    noisy = x + noise.normal(noise.NoiseKey(0, 0, 0, 0, 0), range(1), (3, 64, 64)) * sigma
    quality = [psnr(image, p.to_pixels(p.denoise(noisy, sigma)[0])) for p in (exact, plain)]
    assert quality[0] > quality[1] - 0.05


def test_fingerprints_are_stable_and_see_one_weight():
    plain = psc_core.load_prior("photo", arithmetic="float", device="cpu")
    first, again = ExactUNet(plain._float_net), ExactUNet(plain._float_net)
    assert first.fingerprint == again.fingerprint
    with torch.no_grad():
        plain._float_net.down_blocks[0].resnets[0].conv1.weight[0, 0, 0, 0] += 1.0
    assert ExactUNet(plain._float_net).fingerprint != first.fingerprint


def test_an_unknown_layer_is_refused_by_name():
    plain = psc_core.load_prior("photo", arithmetic="float", device="cpu")
    net = plain._float_net
    net.down_blocks[0].resnets[0].nonlinearity = torch.nn.Tanh()
    with pytest.raises(InvalidPrior, match=r"down_blocks\.0\.resnets\.0.*Tanh"):
        ExactUNet(net)
    net.down_blocks[0].resnets[0] = torch.nn.Identity()
    with pytest.raises(InvalidPrior, match=r"down_blocks\.0.*Identity"):
        ExactUNet(net)


def test_philox_known_answers():
    """The vectors of Random123's kat_vectors for philox4x32-10."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    cases = [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ones,) * 4, (ones, ones), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (pi, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, want in cases:
        out = noise.philox(np.array(counter, dtype=np.uint64)[:, None], key)
        assert " ".join(f"{int(v):08x}" for v in out[:, 0]) == want


def test_noise_depends_on_its_key_alone():
    key = noise.NoiseKey(9, 1, 2, 3, 4)
    many = noise.normal(key, range(5), (3, 7, 5))
    for s in range(5):
        assert torch.equal(noise.normal(key, range(s, s + 1), (3, 7, 5))[0], many[s])
    halves = noise.words(key, 2, 53).astype("<u4").view("<u2")[:105]
    np.testing.assert_array_equal(many[2].flatten().numpy(), noise.normal_table()[halves])
    large = noise.normal(key, range(1), (200_000,)).double()
    assert abs(float(large.mean())) < 0.01
    assert abs(float(large.var()) - 1) < 0.015


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
def test_jacobi_against_lapack(size):
    rng = np.random.default_rng(size)
    a = rng.standard_normal((4, size, size + 2))
    matrices = a @ a.transpose(0, 2, 1)
    matrices[1] = 0
    matrices[2] = np.eye(size) * 5
    values, vectors = jacobi.eigh(matrices)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrices)[:, ::-1], atol=1e-9 * matrices.max())
    np.testing.assert_allclose(
        vectors @ vectors.transpose(0, 2, 1), np.broadcast_to(np.eye(size), (4, size, size)), atol=1e-12
    )
    back = vectors.transpose(0, 2, 1) @ (values[:, :, None] * vectors)
    np.testing.assert_allclose(back, matrices, atol=1e-9 * matrices.max())
    peak = np.take_along_axis(vectors, np.abs(vectors).argmax(2)[:, :, None], axis=2)
    assert (peak > 0).all()


@given(st.floats(-30, 30))
def test_decimal_functions_agree_with_the_library(x):
    import math

    assert transcendental.exp(x) == pytest.approx(math.exp(x), rel=4e-16)
    assert transcendental.sin_cos(x)[0] == pytest.approx(math.sin(x), rel=1e-14, abs=1e-16)
    assert transcendental.erf(x / 6) == pytest.approx(math.erf(x / 6), rel=1e-14, abs=1e-300)


def test_weights_within_range():
    weight = quantize_weight(torch.randn(8, 4, 3, 3), None)
    assert isinstance(weight, QuantizedWeight)
    assert int(weight.ints_OKKI.abs().max()) == 127


def test_a_library_whose_float64_products_round_is_refused(monkeypatch):
    from psc_core.exact import fixed

    right, whole = torch.matmul, torch.ones(2, 2, dtype=torch.float64)
    fixed._check_products.cache_clear()
    monkeypatch.setattr(torch, "matmul", lambda a, b: right(a.float(), b.float()).double())
    with pytest.raises(PscError, match="float64 matrix products on cpu"):
        fixed.matmul(whole, whole)
    monkeypatch.setattr(torch, "matmul", right)
    assert torch.equal(fixed.matmul(whole, whole), whole * 2)
