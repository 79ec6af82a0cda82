"""transformers' CLIP text encoders in integer-exact layers: both sides of a stream compute the same embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.exact import state
from psc_core.exact.transformer import LayerNorm
from psc_core.exact.wide import WideLinear, attend_widely, gelu, quick_gelu

CONVERSION = 1
"""Raised whenever converting the same weights gives other integers."""
_KINDS = ("CLIPTextModel", "CLIPTextModelWithProjection")
_ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}


class TextLayer:
    """One residual block: causal attention, then a perceptron."""

    def __init__(self, layer: Any, heads: int, activation: str) -> None:
        self.heads, self.activation = heads, activation
        self.norm1, self.norm2 = LayerNorm(layer.layer_norm1), LayerNorm(layer.layer_norm2)
        own = layer.self_attn
        self.q, self.k, self.v, self.out = (WideLinear(m) for m in (own.q_proj, own.k_proj, own.v_proj, own.out_proj))
        self.first, self.last = WideLinear(layer.mlp.fc1), WideLinear(layer.mlp.fc2)

    def __call__(self, x_TC: Tensor) -> Tensor:
        h = normalized(self.norm1, x_TC)
        mixed = attend_widely(*(self._split(part(h)) for part in (self.q, self.k, self.v)), causal=True)
        x = x_TC + self.out(mixed.transpose(0, 1).reshape(x_TC.shape))
        h = _ACTIVATIONS[self.activation](self.first(normalized(self.norm2, x)))
        return x + self.last(h)

    def _split(self, x_TC: Tensor) -> Tensor:
        return x_TC.unflatten(1, (self.heads, -1)).transpose(0, 1).contiguous()


class ExactTextEncoder:
    """The converted encoder: token numbers to hidden states, and to the projected state of the end of text."""

    def __init__(self, model: Any, device: torch.device | str = "cpu") -> None:
        if type(model).__name__ not in _KINDS:
            raise InvalidPrior(f"{type(model).__name__} has no exact form (known: {', '.join(_KINDS)})")
        config, text = model.config, getattr(model, "text_model", model)
        if config.hidden_act not in _ACTIVATIONS:
            raise InvalidPrior(f"hidden_act={config.hidden_act!r} has no exact form (known: {', '.join(_ACTIVATIONS)})")
        self.tokens = text.embeddings.token_embedding.weight.detach().cpu().float()
        self.places = text.embeddings.position_embedding.weight.detach().cpu().float()
        self.layers = [TextLayer(layer, config.num_attention_heads, config.hidden_act) for layer in text.encoder.layers]
        self.final_norm = LayerNorm(text.final_layer_norm)
        projection = getattr(model, "text_projection", None)
        self.projection = [] if projection is None else [WideLinear(projection)]
        self.fingerprint = state.fingerprint(self, f"exact clip {CONVERSION}", (self.tokens, self.places))
        state.move(self, device)
        self.device = torch.device(device)

    def __call__(self, ids: Sequence[int], end: int, penultimate: bool) -> tuple[Tensor, Tensor | None]:
        """Hidden states (T, C), and the projection (P,) of the state at place ``end`` where the model has one.

        penultimate: the states before the last layer, as SDXL reads them; else those after the last norm.
        """
        x = (self.tokens[torch.tensor(ids, dtype=torch.int64, device="cpu")] + self.places[: len(ids)]).to(self.device)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1]))
        last = normalized(self.final_norm, states[-1])
        pooled = self.projection[0](last[end : end + 1])[0] if self.projection else None
        return states[-2] if penultimate else last, pooled


def normalized(norm: LayerNorm, x_TC: Tensor) -> Tensor:
    """A layer norm over tokens."""
    return norm(x_TC[None, None])[0, 0]
