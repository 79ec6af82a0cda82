"""Checkpoints of guided-diffusion as priors, held to outputs of guided-diffusion's own code.

adm.json was written by ``python infra/adm_check.py CHECKOUT --record tests/psc_core/priors/adm.json``; it names the
commit. The weights are made again here, from the same random integers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import psc_core
from infra import adm_check
from psc_core.errors import InvalidPrior
from psc_core.exact.backends import backend_names, known_answer
from psc_core.exact.guard import ExactGuard
from psc_core.exact.unet import ExactUNet
from psc_core.priors.adm_checkpoint import Flags, flags_of, read_tensors, shape_of
from psc_core.priors.adm_layout import unet_of
from tests.psc_core.photographs import photograph

RECORD = json.loads((Path(__file__).parent / "adm.json").read_text())["cases"]
UNCONDITIONAL = "256x256_diffusion_uncond"


@pytest.fixture(params=RECORD)
def case(request):
    return request.param


def checkpoint(folder, case, **flags):
    path = adm_check.save(folder, case, adm_check.random_weights(RECORD[case]["shapes"]))
    path.with_suffix(".json").write_text(json.dumps(adm_check.flags_of(case) | flags))
    return path


def difference(got, case):
    want = torch.tensor(RECORD[case]["values"])
    return float((got.flatten()[::61] - want).abs().max())


def test_the_network_is_guided_diffusions(tmp_path, case):
    """Float32 to 1e-4 (measured: 5e-6), the exact one to relative RMS 0.03 (measured: 0.013 to 0.022)."""
    plain, exact = adm_check.converted(checkpoint(tmp_path, case), case)
    assert difference(plain, case) < adm_check.LIMIT
    assert float((exact - plain).norm() / plain.norm()) < 0.03


def test_exact_operators_alone_and_the_same_bits_on_every_backend(tmp_path):
    """The layers that published models have: resampling residual blocks around attention, scaled and shifted norms."""
    path = checkpoint(tmp_path, "64x64_diffusion")
    state = read_tensors(path)
    shape = shape_of(state, path)
    model = unet_of(state, shape, flags_of(path, shape), path)
    x = adm_check.noisy_image("64x64_diffusion")[:1, :, :16, :16].permute(0, 2, 3, 1).contiguous()
    outputs = {}
    for name in filter(known_answer, backend_names()):
        net = ExactUNet(model, backend=name)
        embedding = net.embed(adm_check.TIMESTEP, 417)
        with ExactGuard():
            outputs[name] = net(x, embedding)
    assert len(outputs) > 1
    first = next(iter(outputs.values()))
    assert all(torch.equal(out, first) for out in outputs.values()), outputs.keys()


@pytest.mark.parametrize(
    ("case", "flags"),
    [
        ("64x64_diffusion", {"use_new_attention_order": False}),
        ("256x256_diffusion", {"use_new_attention_order": True}),
        ("256x256_diffusion", {"num_head_channels": 32}),
        ("128x128_diffusion", {"num_heads": 2}),
    ],
)
def test_what_the_tensors_do_not_tell_matters(tmp_path, case, flags):
    plain, _ = adm_check.converted(checkpoint(tmp_path, case, **flags), case)
    assert difference(plain, case) > 0.01


def test_the_denoiser_is_guided_diffusions_prediction_of_the_image(tmp_path):
    """x0 = sqrt(1 / a) x_t - sqrt(1 / a - 1) eps, clipped (gaussian_diffusion.py), at a whole timestep."""
    path = checkpoint(tmp_path, UNCONDITIONAL)
    prior = psc_core.load_prior(path, arithmetic="float", device="cpu")
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[400]
    sigma = float(np.sqrt(1 / kept - 1))
    assert prior.schedule.timestep(sigma) == pytest.approx(400, abs=0.01)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * sigma
    with torch.no_grad():
        eps = prior._float_net(x * kept**0.5, torch.tensor(400.0)).sample
    want = (x - sigma * eps).clamp(-1, 1)
    assert float((prior.denoise(x, sigma) - want).abs().max()) < 5e-4
    assert float((want.abs() < 1).float().mean()) > 0.1, "not all is clipped"


def test_a_photograph_comes_back_bit_for_bit(tmp_path):
    path = checkpoint(tmp_path, UNCONDITIONAL)
    prior = psc_core.load_prior(path, device="cpu")
    assert (prior.native_size, prior.multiple) == (32, 2)
    image = photograph("coffee", 40, 32)
    few = {"samples": 2, "first_steps": 2, "steps": 1, "restore_samples": 2, "restore_steps": 1}
    stream = psc_core.encode(image, prior, psc_core.get_profile("archive", tiers=2, window=8, **few))
    again = psc_core.load_prior(str(path), device="cpu")
    decoded = psc_core.decode(psc_core.Stream.from_bytes(stream.to_bytes()), again)
    assert np.array_equal(decoded, psc_core.decode(stream, prior))
    assert stream.canvases == 2


def test_weights_and_flags_are_in_the_fingerprint(tmp_path):
    def fingerprint(folder, change=None, **flags):
        folder.mkdir()
        path = checkpoint(folder, UNCONDITIONAL, **flags)
        if change:
            torch.save(change(torch.load(path, weights_only=True)), path)
        return psc_core.load_prior(path, device="cpu").fingerprint

    first = fingerprint(tmp_path / "a")
    assert psc_core.load_prior(tmp_path / "a" / f"{UNCONDITIONAL}.pt", device="cpu").name == f"{UNCONDITIONAL}.pt"
    assert fingerprint(tmp_path / "b") == first
    assert fingerprint(tmp_path / "half", lambda s: {k: v.half() for k, v in s.items()}) != first
    assert fingerprint(tmp_path / "c", noise_schedule="cosine") != first
    assert fingerprint(tmp_path / "d", num_head_channels=32) != first


def meta(width, widths, blocks, classes):
    """The few tensors that tell a published model's shape, without their contents."""
    shapes = {
        "time_embed.0.weight": (4 * width, width), "input_blocks.0.0.weight": (widths[0], 3, 3, 3),
        "middle_block.1.qkv.weight": (3 * widths[-1], widths[-1], 1), "out.2.weight": (6, widths[0], 3, 3),
        "label_emb.weight": (classes, 4 * width),
        "input_blocks.1.0.emb_layers.1.weight": (2 * widths[0], 4 * width),
    }  # fmt: skip
    levels = len(widths)
    for level, channels in enumerate(widths):
        first = 1 + level * (blocks + 1)
        shapes[f"input_blocks.{first}.0.out_layers.3.weight"] = (channels, channels, 3, 3)
        if level >= levels - 3:
            shapes[f"input_blocks.{first}.1.qkv.weight"] = (3 * channels, channels, 1)
    shapes[f"input_blocks.{levels * (blocks + 1) - 1}.0.norm"] = (1,)
    for level in range(levels):
        last = level * (blocks + 1) + blocks
        kind = "2.in_layers.0.weight" if level < levels - 1 else "0.norm"
        shapes[f"output_blocks.{last}.{kind}"] = (1,)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("size", "width", "widths", "blocks", "heads"),
    [
        (64, 192, (192, 384, 576, 768), 3, (9, 12)),
        (128, 256, (256, 256, 512, 768, 1024), 2, (4, 4)),
        (256, 256, (256, 256, 512, 512, 1024, 1024), 2, (16, 16)),
        (512, 256, (128, 256, 256, 512, 512, 1024, 1024), 2, (16, 16)),
    ],
)
def test_published_models_need_no_flags(tmp_path, size, width, widths, blocks, heads):
    path = tmp_path / "model.pt"
    shape = shape_of(meta(width, widths, blocks, 1000), path)
    assert (shape.widths, shape.blocks, shape.classes, shape.time_width) == (widths, blocks, 1000, width)
    assert shape.scale_shift
    assert shape.resnet_resampling
    assert shape.attends == (False,) * (len(widths) - 3) + (True,) * 3
    flags = flags_of(path, shape)
    assert flags.image_size == size
    assert tuple(map(flags.heads, widths[-2:])) == heads
    assert flags.use_new_attention_order == (flags.noise_schedule == "cosine") == (size == 64)


def test_what_cannot_be_used_is_refused_by_name(tmp_path):
    def load(path):
        return psc_core.load_prior(path, device="cpu")

    path = checkpoint(tmp_path, UNCONDITIONAL)
    path.with_suffix(".json").unlink()
    with pytest.raises(InvalidPrior, match=f"published models.*{UNCONDITIONAL}.json beside it"):
        load(path)
    for given, named in [
        ({"image_size": 32, "heads": 3}, "unknown flags heads"),
        ({"image_size": "32"}, "image_size='32'"),
        ({"num_heads": 4}, "image_size=None"),
        ({"image_size": 32, "noise_schedule": "sigmoid"}, "noise_schedule='sigmoid'"),
    ]:
        path.with_suffix(".json").write_text(json.dumps(given))
        with pytest.raises(InvalidPrior, match=named):
            load(path)
    state = torch.load(path, weights_only=True)
    other, path = path.with_suffix(".json"), tmp_path / "other.pt"
    path.with_suffix(".json").write_text(json.dumps(adm_check.flags_of(UNCONDITIONAL)))
    for change, named in [
        (lambda s: s.pop("middle_block.1.qkv.weight"), "lacks middle_block.1.qkv.weight"),
        (lambda s: s.update({"input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}), "6 input channels"),
        (lambda s: s.update({"extra.weight": torch.zeros(3)}), "extra.weight"),
        (lambda s: s.pop("middle_block.0.in_layers.0.weight"), "mid_block.resnets.0.norm1.weight"),
    ]:
        changed = dict(state)
        change(changed)
        torch.save(changed, path)
        with pytest.raises(InvalidPrior, match=named):
            load(path)
    torch.save({"state": adm_check.CASES, "code": Path}, path)
    with pytest.raises(InvalidPrior, match="tensors alone"):
        load(path)
    with pytest.raises(InvalidPrior, match="cannot be read"):
        load(other)


def test_flags_have_guided_diffusions_defaults():
    flags = Flags(image_size=64)
    assert (flags.num_heads, flags.num_head_channels) == (4, -1)
    assert (flags.noise_schedule, flags.diffusion_steps) == ("linear", 1000)
    assert Flags(image_size=64, diffusion_steps=4000).scheduler()["beta_end"] == pytest.approx(0.005)
