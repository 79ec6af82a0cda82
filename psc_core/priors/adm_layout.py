"""guided-diffusion's UNet as a diffusers ``UNet2DModel``: the same graph, its tensors under other names.

A qkv convolution of guided-diffusion holds q, k and v of one head after another's ("legacy" order), or all q, all k,
all v (``use_new_attention_order``); diffusers keeps three linear layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.priors.adm_checkpoint import Flags, Shape

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_WHOLE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def unet_of(state: Mapping[str, Tensor], shape: Shape, flags: Flags, path: Path) -> Any:
    """The float32 ``UNet2DModel`` of a state dict; learned variances, the last three channels, are dropped."""
    from diffusers import UNet2DModel
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    with torch.device("meta"):
        model: Any = UNet2DModel(**_config(shape, flags))
        if shape.time_width != shape.widths[0]:
            model.time_proj = Timesteps(shape.time_width, flip_sin_to_cos=True, downscale_freq_shift=0)
            model.time_embedding = TimestepEmbedding(shape.time_width, 4 * shape.time_width)
    for layer in model.modules():
        if type(layer).__name__ == "Attention":
            layer.heads = flags.heads(layer.inner_dim)
            layer.scale = 1 / sqrt(layer.inner_dim / layer.heads)
    try:
        model.load_state_dict(dict(_renamed(state, shape, flags)), assign=True)
    except (RuntimeError, KeyError, ValueError) as error:
        raise InvalidPrior(
            f"{path}: its tensors do not fit guided-diffusion's UNet of {shape}: {_short(error)}"
        ) from None
    return model.eval().requires_grad_(False)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else text[:397] + "..."


def _config(shape: Shape, flags: Flags) -> dict[str, Any]:
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    plain = plain if shape.resnet_resampling else ("DownBlock2D", "UpBlock2D")
    resampling = "resnet" if shape.resnet_resampling else "conv"
    return {
        "sample_size": flags.image_size,
        "block_out_channels": shape.widths,
        "layers_per_block": shape.blocks,
        "down_block_types": tuple("AttnDownBlock2D" if a else plain[0] for a in shape.attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else plain[1] for a in reversed(shape.attends)),
        "downsample_type": resampling,
        "upsample_type": resampling,
        "resnet_time_scale_shift": "scale_shift" if shape.scale_shift else "default",
        "attn_norm_num_groups": 32,
        "attention_head_dim": None,
        "num_class_embeds": shape.classes,
        "time_embedding_dim": 4 * shape.time_width,
    }


def _renamed(state: Mapping[str, Tensor], shape: Shape, flags: Flags) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its name in diffusers; a name that belongs nowhere stays, and is refused by it."""
    places = dict(_WHOLE) | dict(_places(shape))
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        layer = next((p for p in (stem, stem.rpartition(".")[0], stem.rpartition(".")[0].rpartition(".")[0])
                      if p in places), None)  # fmt: skip
        if layer is None:
            yield key, value
            continue
        inner = stem[len(layer) + 1 :]
        tensor = value.float()
        if key.startswith("out.2."):
            tensor = tensor[:3].clone()
        if inner == "qkv":
            yield from _attention(places[layer], kind, tensor, flags)
        elif inner in ("norm", "proj_out"):
            name = "group_norm" if inner == "norm" else "to_out.0"
            yield f"{places[layer]}.{name}.{kind}", tensor.squeeze(2) if tensor.ndim == 3 else tensor
        else:
            yield ".".join(filter(None, (places[layer], _RESNET.get(inner, inner), kind))), tensor


def _attention(layer: str, kind: str, qkv: Tensor, flags: Flags) -> Iterator[tuple[str, Tensor]]:
    channels = qkv.shape[0] // 3
    heads = 1 if flags.use_new_attention_order else flags.heads(channels)
    parts = qkv.reshape(heads, 3, channels // heads, *qkv.shape[1:2])
    for index, name in enumerate(("to_q", "to_k", "to_v")):
        yield f"{layer}.{name}.{kind}", parts[:, index].reshape(channels, *qkv.shape[1:2]).clone()


def _places(shape: Shape) -> Iterator[tuple[str, str]]:
    """guided-diffusion's layers and diffusers' names of them."""
    levels, size = len(shape.widths), shape.blocks + 1
    for level in range(levels):
        for n in range(shape.blocks):
            block = 1 + level * size + n
            yield f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{n}"
            yield f"input_blocks.{block}.1", f"down_blocks.{level}.attentions.{n}"
        last = f"input_blocks.{(level + 1) * size}.0"
        yield (last if shape.resnet_resampling else f"{last}.op"), _sampler("down", level, shape)
        attends = shape.attends[levels - 1 - level]
        for n in range(size):
            block = level * size + n
            yield f"output_blocks.{block}.0", f"up_blocks.{level}.resnets.{n}"
            if attends:
                yield f"output_blocks.{block}.1", f"up_blocks.{level}.attentions.{n}"
        last = f"output_blocks.{level * size + shape.blocks}.{2 if attends else 1}"
        yield (last if shape.resnet_resampling else f"{last}.conv"), _sampler("up", level, shape)
    for place, name in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        yield f"middle_block.{place}", f"mid_block.{name}"


def _sampler(side: str, level: int, shape: Shape) -> str:
    name = f"{side}_blocks.{level}.{side}samplers.0"
    return name if shape.resnet_resampling else f"{name}.conv"
