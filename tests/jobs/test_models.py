"""`psc models`: every kind of model, told from its files; and what is said of a model that streams need and is gone."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from click.testing import CliRunner

import jobs
import psc_core
from jobs.models import command
from pipeline.dataset.reader import Dataset
from pipeline.request import Request
from pipeline.restore import decompress
from psc_core.errors import PriorNotFound
from tests.pipeline.build import plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.psc_core.priors import test_adm
from tests.psc_core.priors.test_discrete import folder_of, tiny_unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of three kinds, a folder that is none, and one that cannot be used."""
    root = tmp_path_factory.mktemp("models")
    folder_of(root / "ddpm", unet=tiny_unet(num_class_embeds=7))
    shutil.copytree(psc_core.priors.HERE / "photo", root / "mine")
    test_adm.checkpoint(root, "64x64_diffusion")
    test_adm.checkpoint(root, "256x256_diffusion").with_suffix(".json").unlink()
    (root / "pictures").mkdir()
    return root


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "none"), raising=False)


def named(rows):
    return {row["name"].rsplit("/", 1)[-1]: row for row in rows}


def test_models_are_told_from_their_files(folder, empty_cache):
    rows = named(jobs.models([str(folder)]))
    assert set(rows) == {"photo", "ddpm", "mine", "64x64_diffusion.pt", "256x256_diffusion.pt"}
    assert {name: row["kind"] for name, row in rows.items()} == {
        "photo": "edm", "ddpm": "discrete", "mine": "edm", "64x64_diffusion.pt": "adm", "256x256_diffusion.pt": "adm",
    }  # fmt: skip
    ddpm, adm, broken = rows["ddpm"], rows["64x64_diffusion.pt"], rows["256x256_diffusion.pt"]
    assert (ddpm["condition"], ddpm["classes"], ddpm["native_size"]) == ("label", 7, 32)
    assert ddpm["parameters"] == sum(p.numel() for p in tiny_unet(num_class_embeds=7).parameters())
    assert (adm["condition"], adm["classes"], adm["native_size"]) == ("label", 1000, 32)
    state = torch.load(folder / "64x64_diffusion.pt", weights_only=True)
    assert adm["parameters"] == sum(t.numel() for t in state.values())
    whole = (folder / "64x64_diffusion.pt").read_bytes()
    file = adm["files"]["64x64_diffusion.pt"]
    assert file == {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    assert rows["photo"]["files"] == rows["mine"]["files"]
    assert "published models" in broken["problem"]
    assert all(row["problem"] is None for row in rows.values() if row is not broken)


def test_fingerprints_are_those_of_streams(folder, empty_cache):
    rows = named(jobs.models([str(folder / "64x64_diffusion.pt")], fingerprints=True))
    for name in ("photo", str(folder / "64x64_diffusion.pt")):
        prior = psc_core.load_prior(name)
        assert rows[name.rsplit("/", 1)[-1]]["fingerprint"] == prior.fingerprint


def test_the_command(folder, empty_cache):
    run = CliRunner().invoke(command, [str(folder / "ddpm"), "--json"])
    assert run.exit_code == 0
    assert [row["where"] for row in json.loads(run.stdout.splitlines()[-1])["models"]] == ["bundled", "given"]
    run = CliRunner().invoke(command, [str(folder), "--fingerprint"])
    assert run.exit_code == 1
    assert "label (0 to 6)" in run.stdout
    assert "256x256_diffusion.pt cannot be used" in run.stderr
    with pytest.raises(PriorNotFound, match="no model in it"):
        jobs.models([str(folder / "pictures")])


def test_the_hub_cache_is_listed(folder, monkeypatch, tmp_path):
    import huggingface_hub

    snapshot = tmp_path / "models--owner--ddpm" / "snapshots" / ("0" * 40)
    shutil.copytree(folder / "ddpm", snapshot)
    (tmp_path / "models--owner--text" / "snapshots" / ("1" * 40)).mkdir(parents=True)
    scan = huggingface_hub.scan_cache_dir
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(tmp_path))
    rows = named(jobs.models())
    assert set(rows) == {"photo", "ddpm"}
    assert rows["ddpm"]["name"] == "owner/ddpm"
    assert rows["ddpm"]["where"] == "hub cache"


def test_a_latent_models_facts_are_its_parts(tmp_path, empty_cache):
    for part, config in (("unet", {"sample_size": 64}), ("vae", {"block_out_channels": [1, 2, 3, 4]})):
        (tmp_path / "sd" / part).mkdir(parents=True)
        (tmp_path / "sd" / part / "config.json").write_text(json.dumps(config))
    row = named(jobs.models([str(tmp_path)]))["sd"]
    assert (row["kind"], row["native_size"], row["condition"]) == ("latent", 512, "text")
    assert row["problem"] == "no weights in it"


def test_a_missing_model_is_named_with_where_it_was(tmp_path):
    """A dataset says where its model was loaded from; a single stream what it is called."""
    make_images(tmp_path / "src", 2)
    shutil.copytree(psc_core.priors.HERE / "photo", tmp_path / "mine")
    request = Request(profile="archive", prior=str(tmp_path / "mine"), overrides={"tiers": 1})
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds", request)
    run_shards(plan, encoder, tmp_path / "ds")
    assert Dataset.open(str(tmp_path / "ds")).plan.prior == str(tmp_path / "mine")
    (tmp_path / "mine").rename(tmp_path / "moved")
    words = (
        rf"need prior 'fake' \(fingerprint 0{{32}}\), which was loaded from {tmp_path}/mine.*no prior 'fake'.*--prior"
    )
    with pytest.raises(PriorNotFound, match=words):
        decompress(str(tmp_path / "ds"), str(tmp_path / "out"))
    with pytest.raises(PriorNotFound, match=r"need prior 'fake'.*no prior 'nowhere'"):
        decompress(str(tmp_path / "ds"), str(tmp_path / "out"), prior="nowhere")


def test_the_model_is_found_where_it_was(tmp_path):
    shutil.copytree(psc_core.priors.HERE / "photo", tmp_path / "mine")
    header = psc_core.SharedHeader(
        profile=psc_core.get_profile("archive"), prior_name="called", prior_fingerprint="00" * 16
    )
    assert Request.of_streams(header, loaded_from=str(tmp_path / "mine")).prior == str(tmp_path / "mine")
    assert Request.of_streams(header, loaded_from=str(tmp_path / "gone")).prior == "called"
    assert Request.of_streams(header, prior="other", loaded_from=str(tmp_path / "mine")).prior == "other"
