"""What ``load_prior`` cannot use: one typed error that names the file and the field, or the argument."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import psc_core
from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.priors.catalog import describe
from psc_core.priors.schedule import DiscreteSchedule

SETTINGS = {
    "name": "tiny",
    "parametrization": "edm",
    "sigma_data": 0.5,
    "sigma_min": 0.004,
    "sigma_max": 80,
    "pixel_unshuffle": 2,
    "size_multiple": 4,
}
SIZES = {
    "sample_size": 16,
    "block_out_channels": (16, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
}


def unet(channels):
    torch.manual_seed(0)
    return UNet2DModel(in_channels=channels, out_channels=channels, add_attention=False, **SIZES)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder as psc train-prior's, and a pipeline's."""
    root = tmp_path_factory.mktemp("priors")
    unet(12).save_pretrained(root / "edm")
    (root / "edm" / "prior.json").write_text(json.dumps(SETTINGS))
    DDPMPipeline(unet(3), DDPMScheduler()).save_pretrained(root / "ddpm")
    return root


@pytest.fixture
def edm(kept, tmp_path):
    return Path(shutil.copytree(kept / "edm", tmp_path / "edm"))


@pytest.fixture
def ddpm(kept, tmp_path):
    return Path(shutil.copytree(kept / "ddpm", tmp_path / "ddpm"))


def refused(folder: Path, *said: str) -> None:
    with pytest.raises(InvalidPrior) as caught:
        psc_core.load_prior(folder, device="cpu")
    assert all(words in str(caught.value) for words in said), caught.value


def test_the_folders_load_as_they_are(edm, ddpm):
    assert psc_core.load_prior(edm, device="cpu").multiple == 4
    assert psc_core.load_prior(ddpm, device="cpu").schedule.about == DiscreteSchedule({"clip_sample": True}).about


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("sigma_data", None, "sigma_data=null: expected a number"),
        ("sigma_data", "0.5", 'sigma_data="0.5": expected a number'),
        ("sigma_data", 0, "sigma_data=0: expected a number from 1e-06"),
        ("sigma_min", float("nan"), "sigma_min=NaN"),
        ("sigma_max", True, "sigma_max=true"),
        ("sigma_max", 0.001, "sigma_min=0.004: expected less than sigma_max=0.001"),
        ("size_multiple", 0, "size_multiple=0: expected a whole number from 1"),
        ("size_multiple", 4.0, "size_multiple=4.0: expected a whole number"),
        ("size_multiple", 2, "size_multiple=2: expected a multiple of 4"),
        ("pixel_unshuffle", 0, "pixel_unshuffle=0: expected a whole number from 1"),
        ("pixel_unshuffle", 4, "pixel_unshuffle=4 makes 48 channels of RGB; the network has 12"),
        ("name", 5, "name=5: expected a text"),
    ],
)
def test_settings_that_cannot_be(edm, field, value, said):
    (edm / "prior.json").write_text(json.dumps(SETTINGS | {field: value}))
    refused(edm, str(edm / "prior.json"), said)


@pytest.mark.parametrize(
    ("text", "said"), [("null", "not null"), ("[]", "not []"), ("{", "is not JSON"), ("[" * 99_999, "JSON")]
)
def test_files_that_hold_no_object(edm, ddpm, text, said):
    for folder, name in (
        (edm, "prior.json"),
        (ddpm, "model_index.json"),
        (ddpm, "scheduler/scheduler_config.json"),
        (ddpm, "unet/config.json"),
    ):
        path = folder / name
        whole = path.read_text()
        path.write_text(text)
        refused(folder, str(path), said)
        assert name == "prior.json" or describe(folder, "x") is not None
        path.write_text(whole)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trained_betas": [0.5, 1.0]}, "trained_betas[1]=1.0: expected a number from 0 to 0.9999"),
        ({"trained_betas": []}, "trained_betas: expected a list of 1 to"),
        ({"trained_betas": 0.1}, "trained_betas: expected a list"),
        ({"trained_betas": [0.0]}, "noise levels do not rise"),
        ({"trained_betas": [0.1, 1e-20]}, "noise levels do not rise"),
        ({"trained_betas": [0.999] * 200}, "after 7 of 200 steps the scheduler leaves nothing"),
        ({"num_train_timesteps": 0}, "num_train_timesteps=0: expected a whole number from 1"),
        ({"num_train_timesteps": "1000"}, 'num_train_timesteps="1000"'),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps=1000000000"),
        ({"beta_start": -1}, "beta_start=-1"),
        ({"beta_end": None}, "beta_end=null"),
        ({"clip_sample": True, "clip_sample_range": 0}, "clip_sample_range=0"),
        ({"prediction_type": ["epsilon"]}, "prediction_type=['epsilon']"),
    ],
)
def test_schedules_that_cannot_be(ddpm, settings, said):
    path = ddpm / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(settings))
    refused(ddpm, str(path), said)


def test_a_null_class_that_is_no_class(ddpm):
    path = ddpm / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"null_class": "last"}))
    refused(ddpm, str(path), "null_class='last': expected the number of a class")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("banana", "device='banana': expected auto, cpu, cuda or cuda:N"),
        (3.5, "device=3.5: expected auto"),
        ("mps", "device='mps': expected auto, cpu, cuda or cuda:N"),
        ("meta", "device='meta': expected auto"),
        ("cuda:99", "device='cuda:99': torch has no such device here ("),
    ],
)
@pytest.mark.parametrize("name", ["gaussian", "photo"])
def test_devices_that_are_not_there(name, device, said):
    with pytest.raises(InvalidPrior) as caught:
        psc_core.load_prior(name, device=device)
    assert said in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_cuda_where_there_is_none():
    with pytest.raises(InvalidPrior, match=r"device='cuda': torch has no such device here .*give cpu, or auto"):
        psc_core.load_prior("photo", device="cuda")


def test_names_may_be_paths_and_nothing_else(edm, monkeypatch):
    assert psc_core.load_prior(Path("gaussian"), device=torch.device("cpu")).name == "gaussian"
    assert psc_core.load_prior(Path("photo"), device="cpu").name == "photo"
    shutil.move(edm, edm.with_name("photo"))
    monkeypatch.chdir(edm.parent)
    assert psc_core.load_prior(Path("photo"), device="cpu").name == "tiny"
    assert psc_core.load_prior("photo", device="cpu").name == "photo"
    for name in (None, 3, ""):
        with pytest.raises(PriorNotFound, match="expected one of photo, gaussian, or a path"):
            psc_core.load_prior(name)
