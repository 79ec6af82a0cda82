"""The exact network beside the float one that it was converted from."""

from __future__ import annotations

import pytest
import torch

import psc_core
from psc_core.errors import InvalidPrior
from psc_core.exact import noise
from psc_core.exact.backends import backend_names, known_answer
from psc_core.exact.unet import Added, ExactUNet
from tests.psc_core.exact import tiny
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


TEXT = torch.empty(3, 1, 77, 48).normal_(generator=torch.Generator().manual_seed(1)) * 3
POOLED = Added(tuple(i / 8 - 1 for i in range(16)), (512.0, 512.0, 0.0, 0.0, 512.0, 512.0))
CASES = {
    "stable diffusion": (tiny.conditional, 4, TEXT, None, None),
    "stable diffusion xl": (tiny.xl, 4, TEXT, None, POOLED),
    "guided diffusion": (tiny.class_conditional, 3, None, 7, None),
}


def call(net, channels, context, label, added, samples=slice(0, 3)):
    x = torch.empty(3, 16, 16, channels).normal_(generator=torch.Generator().manual_seed(2))
    return net(x[samples], net.embed(501.0, label, added), None if context is None else context[samples])


def call_float(model, channels, context, label, added):
    x = torch.empty(3, 16, 16, channels).normal_(generator=torch.Generator().manual_seed(2)).permute(0, 3, 1, 2)
    more = {} if label is None else {"class_labels": torch.tensor([label] * 3)}
    if context is not None:
        more["encoder_hidden_states"] = context[:, 0]
    if added is not None:
        text, ids = (torch.tensor([values] * 3) for values in added)
        more["added_cond_kwargs"] = {"text_embeds": text, "time_ids": ids}
    with torch.no_grad():
        return model(x, torch.tensor([501.0] * 3), **more).sample.permute(0, 2, 3, 1)


@pytest.mark.parametrize("case", CASES)
def test_attention_unets_convert_and_stay_near_the_float_model(case):
    """Relative RMS of the output, random weights (measured: 0.024, 0.027, 0.025)."""
    make, *inputs = CASES[case]
    model = make()
    got, want = call(ExactUNet(model), *inputs), call_float(model, *inputs)
    assert float((got - want).norm() / want.norm()) < 0.04


@pytest.mark.parametrize("case", CASES)
def test_attention_unets_have_the_same_bits_on_every_backend_and_in_any_company(case):
    make, *inputs = CASES[case]
    model = make()
    wanted = call(ExactUNet(model), *inputs)
    for name in filter(known_answer, backend_names()):
        net = ExactUNet(model, backend=name)
        assert torch.equal(call(net, *inputs), wanted), name
        assert torch.equal(call(net, *inputs, slice(1, 2))[0], wanted[1]), name


def test_the_fingerprint_covers_what_is_not_a_weight():
    model = tiny.conditional()
    before = ExactUNet(model).fingerprint
    model.mid_block.attentions[0].transformer_blocks[0].attn1.heads = 4
    assert ExactUNet(model).fingerprint != before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.register_to_config(addition_embed_type="image"), "addition_embed_type='image'"),
        (lambda m: setattr(m.mid_block.attentions[0].transformer_blocks[0], "norm_type", "ada_norm"), "ada_norm"),
        (lambda m: setattr(m.mid_block.attentions[0], "proj_in", torch.nn.Conv2d(64, 64, 3, groups=2)), "attentions.0"),
        (lambda m: setattr(m.mid_block, "attentions", torch.nn.ModuleList([torch.nn.Identity()])), "Identity"),
    ],
)
def test_what_has_no_exact_form_is_refused_by_name(change, named):
    model = tiny.conditional()
    change(model)
    with pytest.raises(InvalidPrior, match=named):
        ExactUNet(model)
