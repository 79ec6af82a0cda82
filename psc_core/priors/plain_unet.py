"""The layers of a plain diffusers ``UNet2DModel``, read from its folder without diffusers: importing that takes longer
than most images take to encode.

Plain: residual blocks, convolutions that halve and double, no attention, no classes. The classes are named as
diffusers' own, whose layers they hold under the same names; the exact network is made of either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

WEIGHTS = "diffusion_pytorch_model.safetensors"
_PLAIN: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel",),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
    "downsample_type": ("conv",),
    "mid_block_type": (None, "UNetMidBlock2D"),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}
_BLOCKS = {"down_block_types": "DownBlock2D", "up_block_types": "UpBlock2D"}


def read_plain_unet(folder: Path) -> UNet2DModel | None:
    """The float32 layers of a folder's network, or None where it is not plain, or not as its configuration says.

    None is no refusal: diffusers reads what this cannot, and says what is wrong with what nobody can.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        if not _is_plain(config):
            return None
        with torch.device("meta"):
            model = UNet2DModel(config)
        model.load_state_dict(load_file(folder / WEIGHTS), assign=True)
    except Exception:  # a file may be damaged in any way; diffusers' loader finds the words for it
        return None
    return model.float().requires_grad_(False)


def _is_plain(config: Mapping[str, Any]) -> bool:
    usual = all(key in config and config[key] in known for key, known in _PLAIN.items())
    middle = config["mid_block_type"] is not None
    odd = middle and (config["add_attention"] or config["mid_block_scale_factor"] != 1)
    return usual and not odd and all(set(config[key]) == {block} for key, block in _BLOCKS.items())


class UNet2DModel(nn.Module):
    """Layers without a forward pass; ``config``: as in config.json."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        widths, depth = list(config["block_out_channels"]), config["layers_per_block"]
        vector = config["time_embedding_dim"] or 4 * widths[0]
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.time_embedding = _Perceptron(widths[0], vector)
        down, up, levels = [], [], len(widths)
        for level, width in enumerate(widths):
            before, below = widths[max(0, level - 1)], widths[min(level + 1, levels - 1)]
            enters = [before] + [width] * (depth - 1)
            down.append(DownBlock2D(enters, width, vector, config, halves=level + 1 < levels))
            skips = [width] * depth + [before]
            rises = [below] + [width] * depth
            joined = [a + b for a, b in zip(rises, skips, strict=True)]
            up.append(UpBlock2D(joined, width, vector, config, doubles=level > 0))
        self.down_blocks, self.up_blocks = nn.ModuleList(down), nn.ModuleList(reversed(up))
        self.mid_block = None if config["mid_block_type"] is None else UNetMidBlock2D(widths[-1], vector, config)
        self.conv_norm_out = _norm(widths[0], config)
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, padding=1)


class DownBlock2D(nn.Module):
    """Residual blocks that take ``enters`` channels each, then a convolution of stride 2 if it ``halves``."""

    def __init__(self, enters: list[int], width: int, vector: int, config: Mapping[str, Any], *, halves: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, width, vector, config) for channels in enters)
        self.downsamplers = nn.ModuleList([Downsample2D(width, config["downsample_padding"])] if halves else [])


class UpBlock2D(nn.Module):
    """Residual blocks that take ``enters`` channels each, then doubling and a convolution if it ``doubles``."""

    def __init__(self, enters: list[int], width: int, vector: int, config: Mapping[str, Any], *, doubles: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, width, vector, config) for channels in enters)
        self.upsamplers = nn.ModuleList([Upsample2D(width)] if doubles else [])


class UNetMidBlock2D(nn.Module):
    """Two residual blocks, with no attention in between."""

    attentions = (None,)

    def __init__(self, width: int, vector: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(width, width, vector, config) for _ in range(2))


class ResnetBlock2D(nn.Module):
    """Two normalized convolutions, told the noise level in between, beside a shortcut."""

    upsample = downsample = None
    skip_time_act, output_scale_factor = False, 1.0

    def __init__(self, enters: int, width: int, vector: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.time_embedding_norm = config["resnet_time_scale_shift"]
        self.norm1, self.norm2 = _norm(enters, config), _norm(width, config)
        self.conv1, self.conv2 = nn.Conv2d(enters, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(vector, width * (2 if self.time_embedding_norm == "scale_shift" else 1))
        self.conv_shortcut = None if enters == width else nn.Conv2d(enters, width, 1)
        self.nonlinearity = nn.SiLU()


class Downsample2D(nn.Module):
    norm, use_conv = None, True

    def __init__(self, width: int, padding: int) -> None:
        super().__init__()
        self.padding, self.conv = padding, nn.Conv2d(width, width, 3, stride=2, padding=padding)


class Upsample2D(nn.Module):
    norm, name, use_conv, use_conv_transpose, interpolate = None, "conv", True, False, True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)


class _Perceptron(nn.Module):
    def __init__(self, enters: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(enters, width), nn.Linear(width, width)


def _norm(channels: int, config: Mapping[str, Any]) -> nn.GroupNorm:
    return nn.GroupNorm(config["norm_num_groups"], channels, eps=config["norm_eps"])
