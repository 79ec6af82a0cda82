"""A diffusers ``UNet2DModel`` converted to integer-exact layers: same graph, same weights, sums of integers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.exact.backends import get_backend
from psc_core.exact.embedding import Embedding, VectorLinear, silu, sinusoids
from psc_core.exact.integers import QuantizedWeight
from psc_core.exact.layers import Downsample, GroupNorm, Resnet, Upsample, convolution, convolve_finely

CONVERSION = 1
"""Raised whenever converting the same weights gives other integers."""


class Block:
    """A down, middle or up block: residual blocks (each with an attention or None), then resamplers."""

    def __init__(self, block: Any, path: str) -> None:
        kind = type(block).__name__
        if kind not in _BLOCKS:
            raise InvalidPrior(f"{path}: {kind} has no exact form; known blocks: {', '.join(sorted(_BLOCKS))}")
        self.resnets = [
            Resnet(_known(r, "ResnetBlock2D", path), f"{path}.resnets.{i}") for i, r in _each(block, "resnets")
        ]
        self.attentions = [_attention(a, f"{path}.attentions.{i}") for i, a in _each(block, "attentions")]
        self.down: list[Any] = [
            _resampler(d, f"{path}.downsamplers.{i}", Downsample) for i, d in _each(block, "downsamplers")
        ]
        self.up: list[Any] = [_resampler(u, f"{path}.upsamplers.{i}", Upsample) for i, u in _each(block, "upsamplers")]


class ExactUNet:
    """The converted network. Calling it with x (N, H, W, C) and an :class:`Embedding` gives (N, H, W, C') float32."""

    def __init__(self, model: Any, device: torch.device | str = "cpu", backend: str | None = None) -> None:
        config = model.config
        if config.get("time_embedding_type", "positional") != "positional" or config.get("center_input_sample"):
            raise InvalidPrior("only UNets with positional time embedding and no input centring have an exact form")
        if config.get("act_fn", "silu") not in ("silu", "swish"):
            raise InvalidPrior(f"act_fn={config.act_fn!r} has no exact form")
        self.config = config
        self.device = torch.device(device)
        self.backend = get_backend(str(self.device), backend)
        self.conv_in = convolution(model.conv_in, "conv_in")
        self.time = [VectorLinear(model.time_embedding.linear_1), VectorLinear(model.time_embedding.linear_2)]
        self.classes = _class_table(model)
        self.down = [Block(b, f"down_blocks.{i}") for i, b in enumerate(model.down_blocks)]
        self.mid = Block(model.mid_block, "mid_block") if model.mid_block is not None else None
        self.up = [Block(b, f"up_blocks.{i}") for i, b in enumerate(model.up_blocks)]
        self.norm_out = GroupNorm(model.conv_norm_out)
        self.conv_out = convolution(model.conv_out, "conv_out")
        self.fingerprint = _fingerprint(self)
        _move(self, self.device)
        self.embed = lru_cache(maxsize=512)(self._embed)

    def _embed(self, timestep: float, label: int | None = None) -> Embedding:
        """The embedding of a timestep (and class label), remembered."""
        width = self.time[0].weight.shape[1]
        flip, shift = self.config.get("flip_sin_to_cos", True), self.config.get("freq_shift", 0)
        vector = self.time[1](silu(self.time[0](sinusoids(timestep, width, flip, shift))))
        if label is not None:
            if self.classes is None:
                raise InvalidPrior("a class label was given to a model without classes")
            vector = vector + self.classes[label]
        return Embedding(vector)

    def __call__(self, x: Tensor, embedding: Embedding, context: Any = None) -> Tensor:
        h = convolve_finely(self.backend, x, self.conv_in)
        skips = [h]
        for block in self.down:
            for index in range(len(block.resnets)):
                h = self._layer(block, index, h, embedding, context)
                skips.append(h)
            for down in block.down:
                h = self._resample(down, h, embedding)
                skips.append(h)
        h = self._middle(h, embedding, context)
        for block in self.up:
            for index in range(len(block.resnets)):
                h = self._layer(block, index, self.backend.join(h, skips.pop()), embedding, context)
            for up in block.up:
                h = self._resample(up, h, embedding)
        return self.backend.conv(self.norm_out.quantize(self.backend, h), self.conv_out)

    def _layer(self, block: Block, index: int, h: Tensor, embedding: Embedding, context: Any) -> Tensor:
        h = block.resnets[index](self.backend, h, embedding)
        if index < len(block.attentions) and block.attentions[index] is not None:
            h = block.attentions[index](self.backend, h, context)
        return h

    def _middle(self, h: Tensor, embedding: Embedding, context: Any) -> Tensor:
        if self.mid is None:
            return h
        h = self.mid.resnets[0](self.backend, h, embedding)
        for resnet, attention in zip(self.mid.resnets[1:], self.mid.attentions, strict=True):
            h = h if attention is None else attention(self.backend, h, context)
            h = resnet(self.backend, h, embedding)
        return h

    def _resample(self, layer: Any, h: Tensor, embedding: Embedding) -> Tensor:
        return layer(self.backend, h, embedding) if isinstance(layer, Resnet) else layer(self.backend, h)


_BLOCKS = {
    "DownBlock2D",
    "UpBlock2D",
    "UNetMidBlock2D",
    "AttnDownBlock2D",
    "AttnUpBlock2D",
    "ResnetDownsampleBlock2D",
    "ResnetUpsampleBlock2D",
    "CrossAttnDownBlock2D",
    "CrossAttnUpBlock2D",
    "UNetMidBlock2DCrossAttn",
}


def _each(block: Any, name: str) -> list[tuple[int, Any]]:
    return list(enumerate(getattr(block, name, None) or ()))


def _known(layer: Any, kind: str, path: str) -> Any:
    if type(layer).__name__ != kind:
        raise InvalidPrior(f"{path}: {type(layer).__name__} has no exact form (expected {kind})")
    return layer


def _resampler(layer: Any, path: str, kind: type) -> Any:
    if type(layer).__name__ == "ResnetBlock2D":
        return Resnet(layer, path)
    return kind(_known(layer, kind.__name__ + "2D", path), path)


def _attention(layer: Any, path: str) -> Any:
    if layer is None:
        return None
    raise InvalidPrior(f"{path}: {type(layer).__name__} has no exact form")


def _class_table(model: Any) -> Tensor | None:
    table = getattr(model, "class_embedding", None)
    if table is None:
        return None
    if type(table).__name__ != "Embedding":
        raise InvalidPrior(f"class_embedding: {type(table).__name__} has no exact form (expected Embedding)")
    return table.weight.detach().cpu().double()


def _state(thing: Any) -> Iterator[tuple[Any, Any]]:
    """Every converted layer below ``thing``, in a fixed order, as (owner, layer)."""
    for name, value in vars(thing).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, QuantizedWeight | VectorLinear | GroupNorm):
                yield (thing, name), item
            elif type(item).__module__.startswith("psc_core.exact.") and hasattr(item, "__dict__"):
                yield from _state(item)


def _fingerprint(net: ExactUNet) -> str:
    digest = hashlib.sha256(f"exact unet {CONVERSION}".encode())
    for _, layer in _state(net):
        if isinstance(layer, QuantizedWeight):
            parts = [
                layer.ints_OKKI,
                layer.scale_O,
                layer.bias_O,
                torch.tensor([layer.stride, layer.padding]),
            ]
        else:
            parts = layer.state()
        for part in [*parts, *([net.classes] if net.classes is not None else [])]:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _move(net: ExactUNet, device: torch.device) -> None:
    for (owner, name), layer in list(_state(net)):
        if isinstance(layer, QuantizedWeight):
            setattr(owner, name, layer.to(device))
        elif isinstance(layer, GroupNorm):
            layer.to(device)
