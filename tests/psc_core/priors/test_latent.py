"""Latent-PSC on small Stable Diffusion folders: streams, prompts, refusals, tiles; each part beside its float form."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

import psc_core
from psc_core import errors
from psc_core.exact import backends
from psc_core.exact.guard import ExactGuard
from psc_core.samplers.pigdm import pigdm
from tests.psc_core.exact import tiny
from tests.psc_core.photographs import photograph
from tests.psc_core.priors.stable import SMALL, stable_diffusion, stable_diffusion_xl

ARCHIVE = psc_core.get_profile("archive", tiers=2, samples=2, restore_samples=2, restore_steps=2, perceptual_steps=7)
PAPER = psc_core.get_profile(
    "paper-latent", tiers=2, samples=4, rows=3, stages=1, steps=3, restore_samples=2, perceptual_steps=7
)
PROFILES = [pytest.param(ARCHIVE, id="archive"), pytest.param(PAPER, id="paper-latent")]
DIFFC = psc_core.get_profile(
    "diffc", tiers=2, candidates=6, chunk_bits=4, first_steps=3, steps=1, flow_steps=2, ancestral_steps=2
)
IMAGE = photograph("coffee", 32, 24)
MAKERS = {"sd": stable_diffusion, "xl": stable_diffusion_xl}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name) / "tiny-diffusion") for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def prior(folders):
    return psc_core.load_prior(folders["sd"], device="cpu")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", MAKERS)
def test_streams_decode_to_the_same_pixels_elsewhere(folders, kind, profile, monkeypatch):
    here = psc_core.load_prior(folders[kind], device="cpu")
    stream = psc_core.encode(IMAGE, here, profile, condition="a red cup on the cat")
    pixels = psc_core.decode(stream, here)
    monkeypatch.setenv(backends.VARIABLE, "float32")
    backends.get_backend.cache_clear()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        there = psc_core.load_prior(folders[kind], device="cpu")
        assert there.backend == "float32"
        assert psc_core.encode(IMAGE, there, profile, condition="a red cup on the cat") == stream
        np.testing.assert_array_equal(psc_core.decode(psc_core.Stream.from_bytes(stream.to_bytes()), there), pixels)
    finally:
        torch.set_num_threads(threads)
        backends.get_backend.cache_clear()
    assert pixels.shape == IMAGE.shape
    assert stream.condition == "a red cup on the cat"


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_but_exact_operators_decides_bytes_and_pixels(folders, profile, monkeypatch):
    monkeypatch.setenv(backends.VARIABLE, "float32")
    backends.get_backend.cache_clear()
    loaded = psc_core.load_prior(folders["xl"], device="cpu")
    backends.get_backend.cache_clear()
    with ExactGuard() as guard:
        stream = psc_core.encode(IMAGE, loaded, profile, condition="the dog")
        psc_core.decode(stream, loaded)
    assert guard.seen["bmm"] > 20


@pytest.mark.parametrize("restore", ["mean", "flow"])
def test_diffc_runs_on_latents_too(prior, restore):
    stream = psc_core.encode(IMAGE, prior, DIFFC, condition="the cup")
    again = psc_core.decode(psc_core.Stream.from_bytes(stream.to_bytes()), prior, restore=restore)
    np.testing.assert_array_equal(again, psc_core.decode(stream, prior, restore=restore))
    assert again.shape == IMAGE.shape


def test_the_prompt_changes_the_stream_and_is_needed_to_decode(prior):
    from dataclasses import replace

    streams = [psc_core.encode(IMAGE, prior, ARCHIVE, condition=c) for c in (None, "the dog", "the cat")]
    assert len({s.tiers for s in streams}) == 3
    with pytest.raises(errors.StateMismatch):
        psc_core.decode(replace(streams[1], image=streams[2].image), prior)
    assert streams[1].nbytes >= len(streams[1].image_header) + 6


def test_a_truncated_stream_decodes_as_its_tier_and_latents_can_be_kept(prior):
    stream = psc_core.encode(IMAGE, prior, ARCHIVE, condition="the cup")
    cut = psc_core.Stream.from_bytes(stream.truncate(tier=0).to_bytes())
    (latents,) = psc_core.decode_to_model([cut], prior)
    assert latents.shape == (4, 6, 8)
    pixels = psc_core.decode(cut, prior)
    np.testing.assert_array_equal(pixels, psc_core.decode(stream, prior, tier=0))
    np.testing.assert_array_equal(pixels, prior.to_pixels(latents)[:24, :32])


def test_perceptual_restoration_ends_without_guidance(prior, monkeypatch):
    pulled = []

    def watched(denoise, pull, *others, **options):
        return pigdm(denoise, lambda x: pulled.append(1) or pull(x), *others, **options)

    stream = psc_core.encode(IMAGE, prior, PAPER)
    monkeypatch.setattr("psc_core.paper.canvases.pigdm", watched)
    assert psc_core.decode(stream, prior, restore="perceptual").shape == IMAGE.shape
    assert len(pulled) == 7 - 5


def test_large_images_are_tiled_to_the_size_that_the_model_knows(prior):
    image = photograph("astronaut", 70, 40)
    stream = psc_core.encode(image, prior, ARCHIVE, condition="the cat")
    assert prior.native_size == stream.shared.profile.canvas == 32
    assert stream.shared.profile.window == 8
    assert stream.canvases == 6
    assert psc_core.decode(stream, prior).shape == image.shape


def test_tiles_of_the_autoencoder_fade_into_each_other(prior, monkeypatch):
    latents = prior.to_model(photograph("astronaut", 64, 64))
    tiled = prior.space.decode(latents)
    assert prior.space._starts(16) == [0, 4, 8]
    monkeypatch.setattr(prior.space, "tile", 64)
    steps = [(x[:, :, 1:] - x[:, :, :-1]).abs().mean(dim=(0, 1)) for x in (prior.space.decode(latents), tiled)]
    assert steps[1].max() < 1.5 * steps[0].max(), "a border shows"


def test_tiles_of_a_local_decoder_give_what_the_whole_gives(prior, monkeypatch):
    def enlarged(z):
        return z[:3].repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)

    monkeypatch.setattr(prior.space, "_decode", enlarged)
    for height, width in [(8, 9), (16, 8), (23, 31)]:
        z = torch.linspace(-1, 1, 4 * height * width).view(4, height, width)
        assert torch.allclose(prior.space.decode(z), enlarged(z), atol=1e-6)


def test_the_denoiser_is_the_schedulers_predicted_original(folders):
    prior = psc_core.load_prior(folders["sd"], arithmetic="float", device="cpu").conditioned("the dog")
    unet = UNet2DConditionModel.from_pretrained(folders["sd"] / "unet")
    scheduler = DDIMScheduler.from_pretrained(folders["sd"] / "scheduler")
    scheduler.set_timesteps(1000)
    context, _ = prior._embedded()
    for t in (1, 500, 990):
        kept = float(scheduler.alphas_cumprod[t])
        sigma = ((1 - kept) / kept) ** 0.5
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(t)) * (1 + sigma)
        with torch.no_grad():
            out = unet(x * kept**0.5, t, context[None]).sample
        want = scheduler.step(out, t, x * kept**0.5).pred_original_sample
        assert float((prior.denoise(x, sigma) - want).abs().max()) < 2e-3 * max(1.0, sigma)


def test_v_prediction_models_too(tmp_path):
    folder = stable_diffusion(tmp_path / "v", prediction_type="v_prediction")
    exact, plain = (psc_core.load_prior(folder, arithmetic=a, device="cpu") for a in ("exact", "float"))
    assert exact.schedule.prediction == "v_prediction"
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 3
    a, b = (p.conditioned("the cup").denoise(x, 2.5) for p in (exact, plain))
    assert float((a - b).norm() / b.norm()) < 0.05


def test_every_part_is_near_its_float_form(folders):
    """Relative RMS, random weights (measured: latents 0.006, pixels 0.016, text 6e-5)."""
    exact, plain = (psc_core.load_prior(folders["xl"], arithmetic=a, device="cpu") for a in ("exact", "float"))
    image = photograph("coffee", 32, 32)
    latents = plain.to_model(image)
    pixels = plain.space.decode(latents)
    text, pooled = plain.conditioned("a red dog")._embedded()
    near = exact.conditioned("a red dog")._embedded()
    pairs = {
        "latents": (exact.to_model(image), latents, 0.02),
        "pixels": (exact.space.decode(latents), pixels, 0.05),
        "text": (near[0], text, 5e-4),
        "pooled": (near[1], pooled, 5e-4),
    }
    for name, (got, want, bound) in pairs.items():
        assert float((got - want).norm() / (want - want.mean()).norm()) < bound, name


def test_the_tokens_are_clips(prior):
    ids = prior.prompts[0].ids("The  DOG")
    start, end = prior.prompts[0].tokenizer.bos_token_id, prior.prompts[0].tokenizer.eos_token_id
    vocabulary = prior.prompts[0].tokenizer.get_vocab()
    assert ids == [start, vocabulary["the</w>"], vocabulary["dog</w>"], *[end] * 9]
    assert len(prior.prompts[0].ids("dog " * 50)) == 12


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_the_fingerprint_covers_every_part_and_another_model_is_refused(folders, prior, part, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(folders["sd"], folder)
    if part == "tokenizer":
        merges = folder / part / "merges.txt"
        merges.write_text("\n".join(merges.read_text().splitlines()[:-1]))
    elif part == "scheduler":
        path = folder / part / "scheduler_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"beta_end": 0.013}))
    else:
        _change_one_weight(folder / part)
    other = psc_core.load_prior(folder, device="cpu")
    assert other.fingerprint != prior.fingerprint
    stream = psc_core.encode(photograph("coffee", 16, 16), prior, PAPER)
    with pytest.raises(errors.WrongPrior, match="tiny-diffusion"):
        psc_core.decode(stream, other)


def _change_one_weight(folder) -> None:
    from safetensors.torch import load_file, save_file

    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    name = next(n for n in sorted(tensors) if n.endswith("weight"))
    tensors[name].view(-1)[0] += 1.0
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_stream_names_the_hub_id_that_a_folder_came_from(folders, tmp_path):
    from psc_core.priors import _model_name

    assert _model_name(folders["sd"], folders["sd"]) == "tiny-diffusion"
    (tmp_path / "model_index.json").write_text(json.dumps({"_name_or_path": "stabilityai/stable-diffusion-2-base"}))
    assert _model_name(tmp_path, str(tmp_path)) == "stabilityai/stable-diffusion-2-base"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: shutil.rmtree(f / "vae"), "vae.config.json is missing"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
        (lambda f: shutil.rmtree(f / "scheduler"), "no scheduler_config.json"),
        (lambda f: (f / "vae" / "config.json").write_text("{"), "not JSON"),
        (lambda f: tiny.conditional(**SMALL | {"in_channels": 9}).save_pretrained(f / "unet"), "9 channels"),
        (lambda f: tiny.conditional(**SMALL, cross_attention_dim=40).save_pretrained(f / "unet"), "attends to 40"),
        (lambda f: AutoencoderKL(in_channels=1).save_pretrained(f / "vae"), "1 channels"),
    ],
)  # fmt: skip
def test_folders_that_are_no_prior_are_refused_by_name(folders, tmp_path, change, named):
    folder = tmp_path / "broken"
    shutil.copytree(folders["sd"], folder)
    change(folder)
    with pytest.raises((errors.InvalidPrior, errors.PriorNotFound), match=named):
        psc_core.load_prior(folder, device="cpu")


@pytest.mark.parametrize(
    ("part", "lost"),
    [("vae", "decoder.conv_out.weight"), ("text_encoder", "final_layer_norm.weight"), ("unet", "conv_in.weight")],
)
def test_parts_whose_weights_are_not_there_are_refused(folders, tmp_path, part, lost):
    folder = tmp_path / "copy"
    shutil.copytree(folders["sd"], folder)
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    (full,) = (name for name in weights if name.endswith(lost))
    save_file({name: value for name, value in weights.items() if name != full}, file, {"format": "pt"})
    with pytest.raises(errors.InvalidPrior, match=re.escape(lost)):
        psc_core.load_prior(folder, device="cpu")
