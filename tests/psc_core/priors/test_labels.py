"""Class-conditional models: the label is told to the network on both sides, and is one of its classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

import psc_core
from infra import adm_check
from psc_core.errors import InvalidCondition, InvalidPrior, StateMismatch
from psc_core.exact import noise
from tests.psc_core.photographs import photograph
from tests.psc_core.priors import test_adm
from tests.psc_core.priors.test_discrete import folder_of, tiny_unet

CLASSES = 10
PROFILE = {"tiers": 2, "window": 8, "restore_samples": 2, "restore_steps": 2}


def tiny_labelled():
    unet = tiny_unet(num_class_embeds=CLASSES, block_out_channels=(8, 16))
    unet.class_embedding.weight.data *= 30
    return unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("labelled"), unet=tiny_labelled())


@pytest.fixture(scope="module")
def prior(folder):
    return psc_core.load_prior(folder, device="cpu")


def noisy(sigma):
    return noise.normal(noise.NoiseKey(5, 0, 0, 0, 0), range(2), (3, 32, 32)) * sigma


def test_the_label_is_the_networks(folder, prior):
    """Denoising under a label against diffusers' own call with class_labels, float and exact."""
    plain = psc_core.load_prior(folder, arithmetic="float", device="cpu")
    kept = float(DDPMScheduler().alphas_cumprod[400])
    sigma = ((1 - kept) / kept) ** 0.5
    x = noisy(sigma)
    with torch.no_grad():
        out = tiny_labelled()(x * kept**0.5, 400, class_labels=torch.tensor([3, 3])).sample
    want = DDPMScheduler().step(out, 400, x * kept**0.5).pred_original_sample
    got, exact = (p.conditioned(3).denoise(x, sigma) for p in (plain, prior))
    assert float((got - want).norm() / want.norm()) < 0.003
    assert float((exact - want).norm() / want.norm()) < 0.05
    other = plain.conditioned(4).denoise(x, sigma)
    assert float((other - want).norm() / want.norm()) > 0.05


def test_a_stream_carries_its_label(folder, prior):
    assert prior.condition_kind == "label"
    profile = psc_core.get_profile("archive", **PROFILE)
    images = [photograph("coffee", 32, 32), photograph("chelsea", 32, 32)]
    streams = psc_core.encode_batch(images, prior, profile, conditions=[3, 9])
    again = psc_core.load_prior(folder, device="cpu")
    read = [psc_core.Stream.from_bytes(stream.to_bytes()) for stream in streams]
    assert [stream.condition for stream in read] == [3, 9]
    for stream, pixels in zip(streams, psc_core.decode_batch(read, again), strict=True):
        assert np.array_equal(psc_core.decode(stream, prior), pixels)
    from dataclasses import replace

    wrong = replace(streams[0], image=replace(streams[0].image, condition=4))
    with pytest.raises(StateMismatch):
        psc_core.decode(wrong, prior)


@pytest.mark.parametrize(
    ("condition", "words"),
    [(None, r"no class label: .* 0 to 9 .*--labels"), (10, "class label 10"), ("a dog", "takes a class label")],
)
def test_other_labels_are_refused(prior, condition, words):
    with pytest.raises(InvalidCondition, match=words):
        psc_core.encode(photograph(), prior, psc_core.get_profile("archive", **PROFILE), condition=condition)
    with pytest.raises(InvalidCondition, match="no class label"):
        prior.denoise(noisy(1.0), 1.0)


def test_an_unknown_label_is_the_null_class_where_there_is_one(folder, prior, tmp_path):
    unet = folder_of(tmp_path, unet=tiny_labelled()) / "unet" / "config.json"
    config = json.loads(unet.read_text())
    unet.write_text(json.dumps(config | {"null_class": 9}))
    with_null = psc_core.load_prior(tmp_path, device="cpu")
    assert with_null.fingerprint != prior.fingerprint
    x = noisy(1.0)
    assert torch.equal(with_null.denoise(x, 1.0), prior.conditioned(9).denoise(x, 1.0))
    unet.write_text(json.dumps(config | {"null_class": 10}))
    with pytest.raises(InvalidPrior, match="null_class=10 of 10 classes"):
        psc_core.load_prior(tmp_path, device="cpu")


def test_adm_takes_labels(tmp_path):
    """x0 from guided-diffusion's own recorded output for label 417, at the recorded timestep."""
    case = "256x256_diffusion"
    path = test_adm.checkpoint(tmp_path, case)
    prior = psc_core.load_prior(path, arithmetic="float", device="cpu")
    low, high = (np.log(prior.schedule.sigmas[t]) for t in (371, 372))
    sigma = float(np.exp(low + (high - low) * (adm_check.TIMESTEP - 371)))
    x = adm_check.noisy_image(case) * (1 + sigma**2) ** 0.5
    got = prior.conditioned(417).denoise(x, sigma).flatten()[::61]
    want = (x.flatten()[::61] - sigma * torch.tensor(test_adm.RECORD[case]["values"])).clamp(-1, 1)
    assert float((got - want).abs().max()) < 1e-3
    with pytest.raises(InvalidCondition, match="0 to 999"):
        prior.denoise(x, sigma)
    labelled = test_adm.checkpoint(tmp_path, case, null_class=999)
    assert psc_core.load_prior(labelled, device="cpu").denoise(x, sigma).shape == x.shape
