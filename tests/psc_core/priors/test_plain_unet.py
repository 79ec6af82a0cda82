"""Layers read without diffusers: the same network as diffusers reads, or none."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from psc_core.errors import InvalidPrior
from psc_core.exact.noise import NoiseKey, normal
from psc_core.exact.unet import ExactUNet
from psc_core.priors import HERE
from psc_core.priors.parts import load_network
from psc_core.priors.plain_unet import WEIGHTS, read_plain_unet

SMALL = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8, 12),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "mid_block_type": None,
    "add_attention": False,
}


def saved(folder, **changes):
    torch.manual_seed(0)
    UNet2DModel(**SMALL | changes).save_pretrained(folder)
    return folder


plain = st.fixed_dictionaries(
    {
        "block_out_channels": st.lists(st.sampled_from([8, 12, 16]), min_size=1, max_size=4).map(tuple),
        "layers_per_block": st.integers(1, 3),
        "norm_num_groups": st.sampled_from([2, 4]),
        "mid_block_type": st.sampled_from([None, "UNetMidBlock2D"]),
        "resnet_time_scale_shift": st.sampled_from(["default", "scale_shift"]),
        "time_embedding_dim": st.sampled_from([None, 20]),
        "norm_eps": st.sampled_from([1e-5, 1e-3]),
        "downsample_padding": st.sampled_from([0, 1]),
        "freq_shift": st.sampled_from([0, 1]),
        "flip_sin_to_cos": st.booleans(),
        "in_channels": st.sampled_from([3, 12]),
    }
)


@settings(max_examples=25, deadline=None)
@given(changes=plain)
def test_it_is_the_network_that_diffusers_reads(tmp_path_factory, changes):
    levels = len(changes["block_out_channels"])
    blocks = {"down_block_types": ("DownBlock2D",) * levels, "up_block_types": ("UpBlock2D",) * levels}
    folder = saved(tmp_path_factory.mktemp("unet"), **changes, **blocks)
    model = read_plain_unet(folder)
    assert model is not None
    read, known = ExactUNet(model), ExactUNet(load_network(folder, "UNet2DModel"))
    assert read.fingerprint == known.fingerprint
    x = normal(NoiseKey(0, 0, 0, 0, 0), range(2), (16, 16, changes["in_channels"]))
    assert torch.equal(read(x, read.embed(3.5)), known(x, known.embed(3.5)))


@pytest.mark.parametrize(
    "changes",
    [
        {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")},
        {"mid_block_type": "UNetMidBlock2D", "add_attention": True, "attention_head_dim": 4},
        {"mid_block_type": "UNetMidBlock2D", "mid_block_scale_factor": 1.5},
        {"num_class_embeds": 3},
        {"class_embed_type": "timestep"},
        {"downsample_type": "resnet"},
        {"upsample_type": "resnet"},
        {"act_fn": "gelu"},
        {"time_embedding_type": "fourier"},
    ],
)
def test_what_is_not_plain_is_left_to_diffusers(tmp_path, changes):
    assert read_plain_unet(saved(tmp_path, **changes)) is None


def test_what_is_not_whole_is_left_to_diffusers(tmp_path):
    whole = load_file(saved(tmp_path) / WEIGHTS)
    assert read_plain_unet(tmp_path) is not None
    for damage in (
        {k: v for k, v in whole.items() if k != "conv_out.bias"},
        whole | {"conv_out.bias": torch.zeros(4)},
        whole | {"unheard_of": torch.zeros(4)},
    ):
        save_file(damage, tmp_path / WEIGHTS)
        assert read_plain_unet(tmp_path) is None
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    assert read_plain_unet(tmp_path) is None
    (tmp_path / WEIGHTS).unlink()
    assert read_plain_unet(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"block_out_channels": 3}'])
def test_an_odd_configuration_is_left_to_diffusers(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert read_plain_unet(tmp_path) is None


@pytest.mark.parametrize("key", ["block_out_channels", "norm_num_groups", "down_block_types"])
@pytest.mark.parametrize("value", [None, "many", 0, [], {}])
def test_an_odd_field_is_left_to_diffusers(tmp_path, key, value):
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    assert read_plain_unet(tmp_path) is not None
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    assert read_plain_unet(tmp_path) is None


def test_groups_below_one_are_refused(tmp_path):
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"norm_num_groups": -1}))
    with pytest.raises(InvalidPrior, match="norm_num_groups=-1: expected at least 1"):
        ExactUNet(read_plain_unet(tmp_path))


def test_half_precision_weights_become_float32(tmp_path):
    weights = load_file(saved(tmp_path) / WEIGHTS)
    save_file({k: v.half() for k, v in weights.items()}, tmp_path / WEIGHTS)
    model = read_plain_unet(tmp_path)
    assert model is not None
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_bundled_prior_needs_no_diffusers():
    code = "import sys, psc_core; psc_core.load_prior('photo', device='cpu'); assert 'diffusers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent.parent)
