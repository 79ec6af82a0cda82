"""Time embeddings, computed once a noise level: decimal sinusoids and fixed-point linear layers in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psc_core.exact import fixed, transcendental

_VECTOR_BITS, _VECTOR_LIMIT = 14, 64.0
_WEIGHT_BITS, _WEIGHT_LIMIT = 16, 32.0
"""2^20 x 2^21 x 2048 terms = 2^52: every sum is exact."""


def sinusoids(timestep: float, size: int, flip: bool, shift: float, max_period: int = 10_000) -> Tensor:
    """The sinusoidal embedding of Vaswani et al. as diffusers lays it out: (size,) float64."""
    half = size // 2
    rates = [transcendental.exp(-transcendental.ln(max_period) * i / (half - shift)) for i in range(half)]
    pairs = [transcendental.sin_cos(timestep * rate) for rate in rates]
    sin, cos = [p[0] for p in pairs], [p[1] for p in pairs]
    values = (cos + sin if flip else sin + cos) + [0.0] * (size % 2)
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def silu(vector: Tensor) -> Tensor:
    """x sigmoid(x) for a float64 vector, through decimal arithmetic."""
    gates = [transcendental.sigmoid(float(v)) for v in vector.flatten()]
    return vector * torch.tensor(gates, dtype=torch.float64, device="cpu").view_as(vector)


class VectorLinear:
    """A linear layer on one float64 vector, by exact fixed-point sums."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight = fixed.to_grid(layer.weight.detach().cpu(), _WEIGHT_BITS, _WEIGHT_LIMIT)
        out = self.weight.shape[0]
        self.bias = (
            layer.bias.detach().cpu().double()
            if layer.bias is not None
            else torch.zeros(out, dtype=torch.float64, device="cpu")
        )

    def __call__(self, vector: Tensor) -> Tensor:
        ints = fixed.to_grid(vector, _VECTOR_BITS, _VECTOR_LIMIT)
        return (self.weight @ ints) * 2.0 ** -(_WEIGHT_BITS + _VECTOR_BITS) + self.bias

    def state(self) -> list[Tensor]:
        return [self.weight, self.bias]


class Embedding:
    """What a noise level (and class) means to each layer, remembered a layer."""

    def __init__(self, vector: Tensor) -> None:
        self.vector = vector
        self.activated = silu(vector)
        self._of: dict[int, Any] = {}

    def of(self, layer: Any) -> Any:
        """``layer.modulation(self)``, computed once."""
        found = self._of.get(id(layer))
        if found is None:
            found = self._of[id(layer)] = layer.modulation(self)
        return found
