"""A small dataset to look at, and a small prior to send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

import psc_core
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    make_images(root / "src", 5)
    (root / "src" / "broken.jpg").write_bytes(b"no")
    make_dataset(root / "src", root / "ds")
    return str(root / "ds")


@pytest.fixture(scope="module")
def tiny_prior(tmp_path_factory):
    """A folder as `psc train-prior` writes it, its network small and untrained."""
    folder = tmp_path_factory.mktemp("priors") / "tiny-prior"
    down, up = ("DownBlock2D",) * 2, ("UpBlock2D",) * 2
    torch.manual_seed(0)
    UNet2DModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=down,
        up_block_types=up,
        mid_block_type=None,
        norm_num_groups=4,
        add_attention=False,
        resnet_time_scale_shift="scale_shift",
    ).save_pretrained(folder)
    bundled = Path(psc_core.__file__).parent / "priors" / "photo" / "prior.json"
    (folder / "prior.json").write_text(json.dumps(json.loads(bundled.read_text()) | {"name": "tiny-prior"}))
    return folder
