"""`psc bench latent`: every part is measured beside its float form, and an image is the sum of its calls."""

from __future__ import annotations

import json

import pytest

from jobs import bench_latent as module
from psc_core.profiles import get_profile

TINY = {
    "unet": {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
        "attention_head_dim": 2, "cross_attention_dim": 24, "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "autoencoder": {
        "block_out_channels": (8, 16), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 8,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    "text": {
        "vocab_size": 50, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 12, "hidden_act": "gelu",
    },
}  # fmt: skip


def test_parts_are_measured_one_by_one_and_an_image_follows(tmp_path):
    out = tmp_path / "latent.json"
    first = module.bench_latent(str(out), parts=["unet", "text"], settings=TINY)
    assert "projected" not in first
    report = module.bench_latent(str(out), parts=["autoencoder"], settings=TINY)
    assert report == json.loads(out.read_text())
    assert report["unet"] == first["unet"]
    assert [r["call"] for r in module.rows(report)] == ["denoise", "encode", "decode", "prompt"]
    for row in module.rows(report):
        assert 0 < row["relative_rms"] < 0.1
        assert row["exact"] > 0 < row["float"]
    assert [row["profile"] for row in report["projected"]] == list(module.PROFILES)


@pytest.mark.parametrize("profile", ["archive", "paper"])
def test_calls_are_those_that_the_codec_makes(profile):
    import psc_core
    from tests.psc_core.photographs import photograph

    small = {"paper": {"samples": 3, "rows": 2, "steps": 2, "restore_samples": 2}, "archive": {}}[profile]
    chosen = get_profile(profile, tiers=2, **small)
    prior = psc_core.load_prior("gaussian", device="cpu")
    stream = psc_core.encode(photograph("coffee", 32, 32), prior, chosen)
    encoding = prior.nfe
    psc_core.decode(stream, prior)
    counted = module.calls_of(chosen)
    assert (encoding, prior.nfe - encoding) == (counted["encode"], counted["decode"])
