"""The compiled kernels, level by level: the reference's bits whatever the shape, the threads and the values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.exact import compiled, native, noise
from psc_core.exact.backends import backend_names, get_backend, known_answer
from psc_core.exact.integers import SIGMOID_MAX, quantize_weight, sigmoid_table
from psc_core.exact.torch_backends import Float32MM

REFERENCE = Float32MM()
LEVELS = [name for name in backend_names() if name.startswith("native") and known_answer(name)]
pytestmark = pytest.mark.skipif(not LEVELS, reason="the kernels were not compiled here")
levels = pytest.mark.parametrize("level", LEVELS)
few = settings(max_examples=25, deadline=None)


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_same_codes(mine, reference):
    plain = mine.plain()
    assert torch.equal(plain.codes_NHWC, reference.codes_NHWC)
    assert torch.equal(plain.scale_N, reference.scale_N)
    assert torch.equal(plain.zero_N, reference.zero_N)


@st.composite
def activations(draw, most_channels=70, channels=None):
    """NHWC values of many magnitudes and signs, some samples constant or zero."""
    n, h, w = (draw(st.integers(1, most)) for most in (5, 13, 40))  # tiles hold up to 16 pixels of a row
    c = channels or draw(st.integers(1, most_channels))
    x = torch.randn(n, h, w, c, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    x = x * 10.0 ** draw(st.integers(-6, 6)) + draw(st.sampled_from([0.0, 0.0, 3.0, -40.0]))
    sign = draw(st.sampled_from([None, None, 1, -1]))
    x = x if sign is None else x.abs() * sign
    first = draw(st.sampled_from([None, None, 0.0, -2.5, 7.0]))
    if first is not None:
        x[0] = first
    return x


def cut(backend, x, at):
    """x, or the same channels in two tensors."""
    return backend.join(x[..., :at].contiguous(), x[..., at:].contiguous()) if 0 < at < x.shape[3] else x


def test_native_is_used_first_where_it_was_built():
    assert get_backend("cpu").name == "native"


@levels
@few
@given(x=activations(), at=st.integers(0, 70), threads=st.integers(1, 3))
def test_codes(level, x, at, threads):
    torch.set_num_threads(threads)
    backend = get_backend("cpu", level)
    parts = cut(backend, x, at)
    assert_same_codes(backend.quantize(parts), REFERENCE.quantize(x))
    for mine, want in zip(backend.quantize_finely(parts), REFERENCE.quantize_finely(x), strict=True):
        assert_same_codes(mine, want)
    assert_same_codes(backend.upsample(backend.quantize(x)), REFERENCE.upsample(REFERENCE.quantize(x)))


@levels
@few
@given(
    x=activations(channels=24) | activations(channels=40),
    groups=st.sampled_from([1, 2, 8]),
    gain=st.sampled_from([1.0, 0.1, 30.0, 1e4]),
    offset=st.sampled_from([0.0, 0.0, 1.0, -1.3, -30.0]),
    silu=st.booleans(),
    at=st.integers(0, 40),
    threads=st.integers(1, 3),
)
def test_norm(level, x, groups, gain, offset, silu, at, threads):
    torch.set_num_threads(threads)
    backend, c = get_backend("cpu", level), x.shape[3]
    gamma = torch.linspace(-1, 1, c).double() * gain
    beta = torch.linspace(1, -1, c).double() + offset
    mine = backend.norm_quantize(cut(backend, x, at), gamma, beta, groups, 1e-5, silu)
    assert_same_codes(mine, REFERENCE.norm_quantize(x, gamma, beta, groups, 1e-5, silu))


@levels
@few
@given(
    x=activations(most_channels=40),
    outputs=st.integers(1, 70),
    kernel=st.sampled_from([(1, 0), (3, 1), (3, 0), (2, 1), (5, 2), (1, 1)]),
    stride=st.sampled_from([1, 1, 2, 3, 5]),
    biased=st.booleans(),
    added=st.booleans(),
    threads=st.integers(1, 3),
)
def test_convolutions(level, x, outputs, kernel, stride, biased, added, threads):
    torch.set_num_threads(threads)
    size, pad = kernel
    if min(x.shape[1:3]) + 2 * pad < size:
        return
    generator = torch.Generator().manual_seed(outputs)
    weight = quantize_weight(
        torch.randn(outputs, x.shape[3], size, size, generator=generator), torch.ones(outputs), stride, pad
    )
    bias = torch.randn(outputs, generator=generator) if biased else None
    want = REFERENCE.conv(REFERENCE.quantize(x), weight, bias_O=bias)
    residual = torch.randn(want.shape, generator=generator) if added else None
    if residual is not None:
        want = REFERENCE.conv(REFERENCE.quantize(x), weight, bias_O=bias, residual_NHWC=residual)
    backend = get_backend("cpu", level)
    got = backend.conv(backend.quantize(x), weight, bias_O=bias, residual_NHWC=residual)
    assert torch.equal(got, want)
    # What the convolution remembers of its output must be what quantizing it anew would find.
    assert_same_codes(backend.quantize(got), REFERENCE.quantize(want))


@levels
def test_a_range_is_forgotten_when_the_tensor_is_written(level):
    backend = get_backend("cpu", level)
    weight = quantize_weight(torch.ones(3, 4, 1, 1), None)
    out = backend.conv(backend.quantize(torch.randn(2, 5, 5, 4)), weight)
    out[1, 2, 2, 1] = 1000.0
    assert_same_codes(backend.quantize(out), REFERENCE.quantize(out))


@levels
def test_inference_mode(level):
    backend = get_backend("cpu", level)
    weight = quantize_weight(torch.ones(3, 4, 1, 1), None)
    with torch.inference_mode():
        out = backend.conv(backend.quantize(torch.randn(2, 5, 5, 4)), weight)
        assert_same_codes(backend.quantize(out), REFERENCE.quantize(out))


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="float32"):
        get_backend("cpu", LEVELS[0]).quantize(torch.zeros(1, 2, 2, 4).double())


def test_what_the_search_for_the_least_silu_relies_on():
    """The table never falls; below zero it makes bins whose least values fall to one minimum and rise."""
    table = sigmoid_table().double()
    assert bool((table.diff() >= 0).all())
    edges = (torch.arange(1 - SIGMOID_MAX, 1) - 0.5) / 64
    least = (edges.float() * sigmoid_table()[1 : SIGMOID_MAX + 1]).double()
    turns = least.diff().sign()
    assert int((turns.diff() != 0).sum()) == 1


@pytest.mark.parametrize("count", [1, 7, 8, 130, 70_001])
def test_noise(count):
    key = noise.NoiseKey(2**63 + 12345, 2**31 + 1, 3, 7, 9)
    table = noise.normal_table()
    drawn = np.empty((2, count), dtype=np.float32)
    compiled.normal_into(drawn, table, range(4, 6), (3 << 24 | 7 << 12 | 9, 2**31 + 1), key.seed)
    for row, sample in zip(drawn, (4, 5), strict=True):
        halves = noise.words(key, sample, math.ceil(count / 2)).astype("<u4").view("<u2")[:count]
        assert np.array_equal(row, table[halves])


def test_a_library_of_older_sources_is_told(monkeypatch):
    monkeypatch.setitem(compiled._SIGNATURES, "psc_of_tomorrow", [])
    with pytest.raises(OSError, match="psc_of_tomorrow: it was built from older sources"):
        compiled.library.__wrapped__()


def test_without_the_library_torch_serves(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "LIBRARY", tmp_path / "absent.so")
    monkeypatch.setattr(native, "library", compiled.library.__wrapped__)
    known_answer.cache_clear(), get_backend.cache_clear()
    try:
        assert not known_answer("native")
        assert not get_backend("cpu").name.startswith("native")
    finally:
        known_answer.cache_clear(), get_backend.cache_clear()
