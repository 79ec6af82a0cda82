"""The prior folder: config and float16 EMA weights as diffusers writes them, prior.json, a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from jobs.training.card import model_card
from jobs.training.loss import SIGMA_DATA, UNSHUFFLE

PARAMETRIZATION = (
    "edm: D(x,s) = c_skip x + c_out F(pixel_unshuffle(c_in x, 2), 250*(ln(s)/4 + 1.4)), "
    "c_skip = sd^2/(s^2+sd^2), c_out = s sd/sqrt(s^2+sd^2), c_in = 1/sqrt(s^2+sd^2)"
)


def gflop_per_64x64(model: UNet2DModel) -> float:
    """Multiplications and additions (1e9) of one call on a 64x64 sample."""
    device = next(model.parameters()).device
    side = 64 // UNSHUFFLE
    x = torch.zeros(1, model.config["in_channels"], side, side, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, torch.zeros(1, device=device))
    return counter.get_total_flops() / 1e9


def write_prior(
    model: UNet2DModel,
    folder: Path,
    *,
    name: str,
    training: dict[str, Any],
    psnr: dict[str, dict[str, float]],
    data_note: str = "",
) -> None:
    """Write the folder that `load_prior` reads, with its model card.

    psnr: a validation curve (dB by σ) a set of images. data_note: origin and licences of the photographs.
    """
    # Names with an underscore say where the weights came from on this machine.
    half = UNet2DModel.from_config({k: v for k, v in model.config.items() if not k.startswith("_")})
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    about: dict[str, Any] = {
        "name": name,
        "format": 1,
        "parametrization": PARAMETRIZATION,
        "sigma_data": SIGMA_DATA,
        "pixel_unshuffle": UNSHUFFLE,
        "value_range": [-1, 1],
        "sigma_min": 0.004,
        "sigma_max": 80,
        "size_multiple": UNSHUFFLE * 2 ** (len(model.config["block_out_channels"]) - 1),
        "weights": "EMA, float16",
        "training": training,
        **{f"denoising_psnr_db_{images}": curve for images, curve in psnr.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflop_per_64x64": round(gflop_per_64x64(model), 2),
    }
    (folder / "prior.json").write_text(json.dumps(about, indent=1) + "\n")
    (folder / "README.md").write_text(model_card(about, data_note=data_note))
