"""Small diffusers UNets with random weights, of every kind of layer that has an exact form."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel


def _random(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = 0.1 if parameter.ndim == 1 else 0.5 * parameter[0].numel() ** -0.5
        noise = torch.empty_like(parameter).normal_(generator=generator) * scale
        parameter.data = noise if parameter.ndim > 1 else parameter.data + noise
    return model.eval().requires_grad_(False)


def conditional(**settings: Any) -> Any:
    """Stable Diffusion's graph: cross-attention to a text of width 48, latents of 4 channels."""
    return _random(
        UNet2DConditionModel(
            **{
                "sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": (32, 64),
                "layers_per_block": 1, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 48,
                "attention_head_dim": 8, "norm_num_groups": 8, **settings,
            }
        )
    )  # fmt: skip


def xl(**settings: Any) -> Any:
    """Stable Diffusion XL's: linear projections, two transformer blocks, pooled text and sizes."""
    return conditional(
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8, transformer_layers_per_block=2, **settings,
    )  # fmt: skip


def class_conditional() -> Any:
    """Guided diffusion's: self-attention, residual blocks that resample, classes."""
    return _random(
        UNet2DModel(
            sample_size=16, in_channels=3, out_channels=3, block_out_channels=(32, 64), layers_per_block=1,
            down_block_types=("AttnDownBlock2D", "ResnetDownsampleBlock2D"),
            up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D"), norm_num_groups=8, attention_head_dim=8,
            num_class_embeds=10, resnet_time_scale_shift="scale_shift",
        )
    )  # fmt: skip
