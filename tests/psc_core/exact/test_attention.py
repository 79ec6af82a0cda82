"""Attention by integers against attention by float64, and its independence of company and pieces."""

from __future__ import annotations

import pytest
import torch

from psc_core.exact import attention
from psc_core.exact.backends import get_backend
from psc_core.exact.transformer import LayerNorm, gelu

BACKEND = get_backend("cpu", "float32")


def tokens(batch: int, count: int, width: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.empty(batch, count, width).normal_(generator=torch.Generator().manual_seed(seed)) * scale


def plain(q, k, v, *, causal=False):
    return torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=causal)


@pytest.mark.parametrize(("scale", "bound"), [(0.1, 0.03), (1.0, 0.02), (3.0, 0.02)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_near_the_float64_one(scale, bound, causal):
    """From almost uniform over 700 keys to almost one-hot; more keys than one float32 sum holds."""
    q, k, v = tokens(2, 700, 32, 1, scale), tokens(2, 700, 32, 2), tokens(2, 700, 32, 3)
    got, want = attention.attend(BACKEND, q, k, v, causal=causal), plain(q, k, v, causal=causal)
    assert float((got - want).norm() / want.norm()) < bound


def test_the_sums_are_those_of_int64():
    q, k, v = tokens(1, 40, 16, 4), tokens(1, 900, 16, 5), tokens(1, 900, 16, 6)
    (a, unit_a), (b, unit_b), (c, unit_c) = attention.codes(q, 2), attention.codes(k, 2), attention.codes(v, 1)
    logits = (a.long() @ b.long().transpose(1, 2)).float() * (unit_a * 0.25) * unit_b.transpose(1, 2)
    weights = attention.softmax_weights(logits).long()
    want = ((weights @ c.long()).double() / weights.sum(2, keepdim=True).double()).float() * unit_c
    assert torch.equal(attention.attend(BACKEND, q, k, v), want)


def test_pieces_and_company_leave_every_bit(monkeypatch):
    q, k, v = tokens(3, 50, 8, 7), tokens(3, 60, 8, 8), tokens(3, 60, 8, 9)
    whole = attention.attend(BACKEND, q, k, v)
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", 3 * 60 * 7)
    assert torch.equal(attention.attend(BACKEND, q, k, v), whole)
    assert torch.equal(attention.attend(BACKEND, q[1:2], k[1:2], v[1:2])[0], whole[1])


def test_one_far_key_takes_all_the_weight():
    q = torch.ones(1, 1, 4) * 30
    k = torch.stack((torch.ones(4) * 30, torch.zeros(4)))[None]
    v = torch.tensor([[1.0, -2.0, 0.5, 0.0], [9.0, 9.0, 9.0, 9.0]])[None]
    assert torch.allclose(attention.attend(BACKEND, q, k, v)[0, 0], v[0, 0], atol=0.04)


def test_softmax_weights_end_at_zero_and_65535():
    weights = attention.softmax_weights(torch.tensor([[0.0, -1.0, -40.0, -torch.inf]]))
    assert weights.tolist() == [[65535.0, 24109.0, 0.0, 0.0]]


def test_layer_norm_is_near_the_float_one_token_by_token():
    layer = torch.nn.LayerNorm(96)
    layer.weight.data.uniform_(0.5, 2)
    layer.bias.data.uniform_(-1, 1)
    x = tokens(2, 30, 96, 10)[:, None] * torch.logspace(-2, 2, 30)[None, None, :, None] + 3
    with torch.no_grad():
        want = layer(x)
    got = LayerNorm(layer)(x)
    assert float((got - want).abs().max()) < 0.02
    assert torch.equal(LayerNorm(layer)(x[:, :, 4:5])[:, :, 0], got[:, :, 4])


def test_gelu_is_near_the_float_one():
    x = torch.linspace(-9, 9, 4001)
    assert float((gelu(x) - torch.nn.functional.gelu(x)).abs().max()) < 3e-3
