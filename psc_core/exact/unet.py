"""A diffusers ``UNet2DModel`` or ``UNet2DConditionModel`` in integer-exact layers: same graph, same weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.exact import state
from psc_core.exact.backends import get_backend
from psc_core.exact.embedding import Embedding, VectorLinear, silu, sinusoids
from psc_core.exact.layers import Downsample, GroupNorm, Resnet, Upsample, convolution, convolve_finely
from psc_core.exact.transformer import Attention, Transformer2D

CONVERSION = 2
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


class Added(NamedTuple):
    """What SDXL adds to its time embedding: the pooled text embedding, and sizes and crops in pixels."""

    text: tuple[float, ...]
    ids: tuple[float, ...]


class ExactUNet:
    """The converted network.

    Calling it with x (N, H, W, C), an :class:`Embedding` and, for a conditional model, a context (N, 1, tokens, D)
    gives (N, H, W, C') float32.
    """

    def __init__(self, model: Any, device: torch.device | str = "cpu", backend: str | None = None) -> None:
        config = model.config
        _check(config)
        self.config = config
        self.device = torch.device(device)
        self.backend = get_backend(str(self.device), backend)
        self.conv_in = convolution(model.conv_in, "conv_in")
        self.time = [VectorLinear(model.time_embedding.linear_1), VectorLinear(model.time_embedding.linear_2)]
        self.classes = _class_table(model)
        extra = getattr(model, "add_embedding", None)
        self.added = [] if extra is None else [VectorLinear(extra.linear_1), VectorLinear(extra.linear_2)]
        self.down = [Block(b, f"down_blocks.{i}") for i, b in enumerate(model.down_blocks)]
        self.mid = Block(model.mid_block, "mid_block") if model.mid_block is not None else None
        self.up = [Block(b, f"up_blocks.{i}") for i, b in enumerate(model.up_blocks)]
        self.norm_out = GroupNorm(model.conv_norm_out)
        self.conv_out = convolution(model.conv_out, "conv_out")
        tables = [] if self.classes is None else [self.classes]
        self.fingerprint = state.fingerprint(self, f"exact unet {CONVERSION}{embedding_settings(config)}", tables)
        state.move(self, self.device)
        self.embed = lru_cache(maxsize=512)(self._embed)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "embed"}

    def __setstate__(self, known: dict[str, Any]) -> None:
        vars(self).update(known)
        self.embed = lru_cache(maxsize=512)(self._embed)

    def _embed(self, timestep: float, label: int | None = None, added: Added | None = None) -> Embedding:
        """The embedding of a timestep (and of a class label, and of what SDXL adds), remembered."""
        vector = _perceptron(self.time, self._sinusoids(timestep, self.time[0].weight.shape[1]))
        if (label is None) != (self.classes is None):
            raise InvalidPrior(
                f"class label {label} given to a model {'with' if self.classes is not None else 'without'} classes"
            )
        if label is not None and self.classes is not None:
            vector = vector + self.classes[label]
        if (added is None) != (not self.added):
            raise InvalidPrior(
                "pooled text and sizes belong to models of addition_embed_type 'text_time', and to all of them"
            )
        if added is not None:
            sizes = [self._sinusoids(i, self.config.addition_time_embed_dim) for i in added.ids]
            text = torch.tensor(added.text, dtype=torch.float64, device="cpu")
            vector = vector + _perceptron(self.added, torch.cat([text, *sizes]))
        return Embedding(vector)

    def _sinusoids(self, value: float, width: int) -> Tensor:
        return sinusoids(value, width, self.config.get("flip_sin_to_cos", True), self.config.get("freq_shift", 0))

    def __call__(self, x: Tensor, embedding: Embedding, context: Tensor | None = None) -> Tensor:
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

    def _layer(self, block: Block, index: int, h: Tensor, embedding: Embedding, context: Tensor | None) -> Tensor:
        h = block.resnets[index](self.backend, h, embedding)
        if index < len(block.attentions) and block.attentions[index] is not None:
            h = self._attend(block.attentions[index], h, context)
        return h

    def _attend(self, layer: Attention | Transformer2D, h: Tensor, context: Tensor | None) -> Tensor:
        return layer(self.backend, h, context) if isinstance(layer, Transformer2D) else layer(self.backend, h)

    def _middle(self, h: Tensor, embedding: Embedding, context: Tensor | None) -> Tensor:
        if self.mid is None:
            return h
        h = self.mid.resnets[0](self.backend, h, embedding)
        for resnet, attention in zip(self.mid.resnets[1:], self.mid.attentions, strict=True):
            h = h if attention is None else self._attend(attention, h, context)
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
    "DownEncoderBlock2D",
    "UpDecoderBlock2D",
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


_ATTENTIONS = {"Attention": Attention, "Transformer2DModel": Transformer2D}


def _attention(layer: Any, path: str) -> Any:
    if layer is None:
        return None
    kind = type(layer).__name__
    if kind not in _ATTENTIONS:
        raise InvalidPrior(f"{path}: {kind} has no exact form (known: {', '.join(_ATTENTIONS)})")
    return _ATTENTIONS[kind](layer, path)


_PLAIN = {
    "time_embedding_type": ("positional",),
    "center_input_sample": (False,),
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text_time"),
    "encoder_hid_dim_type": (None,),
    "class_embeddings_concat": (False,),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "dual_cross_attention": (False,),
    "attention_type": ("default",),
}
"""Settings of a UNet's graph, and those of their values that have an exact form; absent means the first."""


def _check(config: Any) -> None:
    for key, known in _PLAIN.items():
        if (value := config.get(key, known[0])) not in known:
            raise InvalidPrior(f"{key}={value!r} has no exact form (known: {', '.join(map(repr, known))})")
    groups = config.get("norm_num_groups", 32)
    if groups is None:
        raise InvalidPrior("norm_num_groups=None has no exact form: the network must end in a group norm")
    if groups < 1:
        raise InvalidPrior(f"norm_num_groups={groups}: expected at least 1")


_EMBEDDING = {"flip_sin_to_cos": True, "freq_shift": 0, "addition_time_embed_dim": None}


def embedding_settings(config: Any) -> str:
    """How noise levels and sizes become sinusoids, where not as usual: no weight tells it, so the fingerprint must."""
    unusual = {k: config.get(k, usual) for k, usual in _EMBEDDING.items() if config.get(k, usual) != usual}
    return f" {sorted(unusual.items())}" if unusual else ""


def _perceptron(layers: list[VectorLinear], vector: Tensor) -> Tensor:
    return layers[1](silu(layers[0](vector)))


def _class_table(model: Any) -> Tensor | None:
    table = getattr(model, "class_embedding", None)
    if table is None:
        return None
    if type(table).__name__ != "Embedding":
        raise InvalidPrior(f"class_embedding: {type(table).__name__} has no exact form (expected Embedding)")
    return table.weight.detach().cpu().double()
