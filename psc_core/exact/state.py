"""What a converted network is made of: walked in a fixed order, for its fingerprint and to move it to a device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from psc_core.exact.embedding import VectorLinear
from psc_core.exact.integers import QuantizedWeight
from psc_core.exact.layers import GroupNorm
from psc_core.exact.transformer import LayerNorm
from psc_core.exact.wide import WideLinear

_LEAVES = (QuantizedWeight, VectorLinear, GroupNorm, LayerNorm, WideLinear)


def fingerprint(net: Any, kind: str, tables: Iterable[Tensor] = ()) -> str:
    """Hex sha256 over what the network is: its kind, its tables, its weights as used, and the graph's numbers."""
    digest = hashlib.sha256(kind.encode())
    for table in tables:
        digest.update(table.contiguous().numpy().tobytes())
    for (owner, _), layer in _state(net):
        if owner is not net:
            digest.update(_scalars(owner).encode())
        digest.update(_scalars(layer).encode())
        weights = isinstance(layer, QuantizedWeight)
        for part in [layer.ints_OKKI, layer.scale_O, layer.bias_O] if weights else layer.state():
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def move(net: Any, device: torch.device | str) -> None:
    """Move every layer that runs on the device; embeddings of noise levels stay where they are computed."""
    for (owner, name), layer in list(_state(net)):
        if isinstance(layer, QuantizedWeight):
            setattr(owner, name, layer.to(device))
        elif isinstance(layer, GroupNorm | LayerNorm | WideLinear):
            layer.to(device)


def _state(thing: Any) -> Iterator[tuple[Any, Any]]:
    """Every converted layer below ``thing``, in a fixed order, as ((owner, attribute), layer)."""
    for name, value in vars(thing).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, _LEAVES):
                yield (thing, name), item
            elif type(item).__module__.startswith("psc_core.exact.") and hasattr(item, "__dict__"):
                yield from _state(item)


def _scalars(thing: Any) -> str:
    """Head counts, groups, strides, epsilons and the like: what the graph is, beside its weights."""
    return repr([(k, v) for k, v in sorted(vars(thing).items()) if isinstance(v, int | float | str | None)])
