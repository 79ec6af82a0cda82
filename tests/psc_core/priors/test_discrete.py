"""Discrete-time models as denoisers, held to diffusers' own schedulers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

import psc_core
from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.priors.schedule import DiscreteSchedule
from tests.psc_core.photographs import photograph


def tiny_unet(**settings) -> UNet2DModel:
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"sample_size": 32, "block_out_channels": (16, 32), "norm_num_groups": 8, "layers_per_block": 1}
    return UNet2DModel(**{**sizes, **kinds, **settings}).eval()


def folder_of(tmp_path, *, unet=None, **scheduler):
    DDPMPipeline(unet or tiny_unet(), DDPMScheduler(**scheduler)).save_pretrained(tmp_path)
    return tmp_path


SCHEDULES = [
    {"prediction_type": "epsilon"},
    {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "clip_sample": False},
    {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2", "clip_sample": False},
    {"prediction_type": "epsilon", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
]


@pytest.mark.parametrize("settings", SCHEDULES)
@pytest.mark.parametrize("t", [1, 400, 990])
def test_denoising_is_the_schedulers_predicted_original(tmp_path, settings, t):
    prior = psc_core.load_prior(folder_of(tmp_path, **settings), arithmetic="float", device="cpu")
    scheduler = DDPMScheduler(**settings)
    kept = float(scheduler.alphas_cumprod[t])
    sigma = ((1 - kept) / kept) ** 0.5
    assert prior.schedule.timestep(sigma) == pytest.approx(t, abs=0.02)
    x = prior.to_model(photograph("coffee", 32, 32))[None] + torch.randn(1, 3, 32, 32) * sigma
    scaled = x * kept**0.5
    with torch.no_grad():
        out = tiny_unet()(scaled, t).sample
    want = scheduler.step(out, t, scaled).pred_original_sample
    got = prior.denoise(x, sigma)
    assert float((got - want).abs().max()) < 2e-3 * max(1.0, sigma / 10)


def test_noise_levels_are_the_schedulers(tmp_path):
    for settings in SCHEDULES:
        kept = DDPMScheduler(**settings).alphas_cumprod.double()
        want = ((1 - kept) / kept).sqrt()
        got = torch.tensor(DiscreteSchedule(settings).sigmas, dtype=torch.float64)
        assert float((got / want - 1).abs().max()) < 2e-3


def test_a_photograph_comes_back_bit_for_bit_through_a_pipeline_folder(tmp_path):
    folder = folder_of(tmp_path, prediction_type="epsilon")
    prior = psc_core.load_prior(folder, device="cpu")
    profile = psc_core.get_profile("archive", tiers=2, window=8)
    image = photograph("coffee", 40, 32)
    stream = psc_core.encode(image, prior, profile)
    assert stream.shared.profile.canvas == 32, "attention knows one size: larger images are cut"
    assert stream.canvases == 2
    again = psc_core.load_prior(folder, device="cpu")
    decoded = psc_core.decode(psc_core.Stream.from_bytes(stream.to_bytes()), again)
    assert np.array_equal(decoded, psc_core.decode(stream, prior))
    assert decoded.shape == image.shape


def test_both_layouts_and_the_schedule_are_in_the_fingerprint(tmp_path):
    prior = psc_core.load_prior(folder_of(tmp_path / "one"), device="cpu")
    assert prior.name == "one", "streams do not depend on where the model is"
    one = prior.fingerprint
    flat = tmp_path / "flat"
    tiny_unet().save_pretrained(flat)
    DDPMScheduler().save_pretrained(flat)
    assert psc_core.load_prior(flat, device="cpu").fingerprint == one
    assert psc_core.load_prior(folder_of(tmp_path / "two", beta_end=0.03), device="cpu").fingerprint != one


def test_learned_variances_are_dropped(tmp_path):
    folder = folder_of(tmp_path, unet=tiny_unet(out_channels=6), variance_type="learned_range")
    x = torch.zeros(1, 3, 32, 32)
    assert psc_core.load_prior(folder, device="cpu").denoise(x, 1.0).shape == x.shape


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prediction_type": "flow"}, "prediction_type='flow'"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule='sigmoid'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"thresholding": True}, "thresholding"),
    ],
)
def test_schedules_without_a_denoiser_are_refused_by_name(tmp_path, change, named):
    path = folder_of(tmp_path) / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidPrior, match=named):
        psc_core.load_prior(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("settings", "named"), [({"class_embed_type": "timestep"}, "class_embed"), ({"in_channels": 1}, "1 channels")]
)
def test_models_of_other_inputs_are_refused(tmp_path, settings, named):
    folder = folder_of(tmp_path, unet=tiny_unet(**settings))
    with pytest.raises(InvalidPrior, match=named):
        psc_core.load_prior(folder, device="cpu")


def test_a_hub_id_that_nobody_has_says_so(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def nothing(name, *, local_files_only, **_):
        asked.append((name, local_files_only))
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    with pytest.raises(PriorNotFound, match=r"owner/model.*no network.*give its path"):
        psc_core.load_prior("owner/model")
    assert asked == [("owner/model", True), ("owner/model", False)]
    with pytest.raises(PriorNotFound, match="neither a folder nor one of photo"):
        psc_core.load_prior("no-such-prior")


@pytest.mark.parametrize("arithmetic", ["exact", "float"])
@pytest.mark.parametrize(
    ("prediction", "kept"),
    [("epsilon", lambda sigma: 1.0), ("v_prediction", lambda sigma: 1 / (1 + sigma**2)), ("sample", lambda sigma: 0.0)],
)
def test_a_network_that_says_nothing_leaves_the_preconditioning(tmp_path, arithmetic, prediction, kept):
    """D(x, sigma) of a zero output in closed form: x, x / (1 + sigma^2), and 0."""
    unet = tiny_unet()
    for parameter in unet.conv_out.parameters():
        parameter.data.zero_()
    folder = folder_of(tmp_path, unet=unet, prediction_type=prediction, clip_sample=False)
    prior = psc_core.load_prior(folder, arithmetic=arithmetic, device="cpu")
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for sigma in (0.02, 1.0, 50.0):
        assert torch.allclose(prior.denoise(x, sigma), x * kept(sigma), rtol=1e-6)


@pytest.mark.parametrize("arithmetic", ["exact", "float"])
def test_weights_that_are_not_there_are_refused(tmp_path, arithmetic):
    folder = folder_of(tmp_path)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    lost = "down_blocks.1.resnets.0.conv1.weight"
    save_file({name: value for name, value in weights.items() if name != lost}, file)
    with pytest.raises(InvalidPrior, match=f"lack.*{lost}"):
        psc_core.load_prior(folder, arithmetic=arithmetic, device="cpu")


@pytest.mark.parametrize("arithmetic", ["exact", "float"])
@pytest.mark.parametrize("change", [{"freq_shift": 1}, {"flip_sin_to_cos": False}])
def test_how_noise_levels_are_embedded_is_in_the_fingerprint(tmp_path, arithmetic, change):
    folder = folder_of(tmp_path)
    usual = psc_core.load_prior(folder, arithmetic=arithmetic, device="cpu")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    other = psc_core.load_prior(folder, arithmetic=arithmetic, device="cpu")
    assert other.fingerprint != usual.fingerprint
