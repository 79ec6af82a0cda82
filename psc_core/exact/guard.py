"""A guard that fails on the first torch operator whose result could depend on where it runs.

Under it, elementwise IEEE-754 operations, comparisons and movements of data pass by name. Sums and products of floats
pass by proof: every operand must be a whole number (times one power of two a tensor) and the sum of magnitudes must
stay below 2^24 (float32) or 2^53 (float64), so that no order of summation rounds. Everything else is :class:`NotExact`.

It sees what goes through torch's dispatcher: not numpy (tests read the source for that), and not the compiled kernels,
which are held to their known-answer tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from psc_core.errors import PscError


class NotExact(PscError):
    """An operator ran on shared state that does not give the same bits everywhere."""

    code = "not_exact"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    """
    abs add bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp
    clamp_max clamp_min div eq floor floor_divide ge gt le logical_and logical_not logical_or lt maximum minimum
    mul ne neg remainder round rsub sign sqrt sub where
    """
)
"""One IEEE-754 operation (or an integer one) an element; sqrt and div are correctly rounded by the standard."""

ORDER_FREE = frozenset(["all", "amax", "amin", "aminmax", "any", "argsort", "max", "min", "sort"])
"""Reductions that round nothing: any order gives the same."""

MOVEMENT = _names(
    """
    _local_scalar_dense _reshape_alias _to_copy _unsafe_view alias arange as_strided cat clone constant_pad_nd
    copy detach detach_ diagonal empty empty_like empty_strided equal expand eye fill flip full full_like gather
    index index_put index_select lift_fresh masked_fill new_empty new_full new_zeros nonzero ones ones_like
    permute pixel_shuffle pixel_unshuffle repeat resize scalar_tensor scatter select slice slice_scatter split
    split_with_sizes squeeze stack t transpose unbind unfold unsqueeze upsample_nearest2d view zero zeros
    zeros_like
    """
)
"""What fills, moves, copies and converts (conversions round half to even)."""

_EXACT_BITS = {torch.float64: 53, torch.float32: 24, torch.bfloat16: 24}
"""bfloat16 operands accumulate and leave as float32 here (``out_dtype``)."""


class ExactGuard(TorchDispatchMode):
    """``with ExactGuard() as guard:`` runs a shared stage; ``guard.seen`` counts its operators by name.

    Raises:
        NotExact: at the operator, so that the traceback shows the line that called it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.seen[name] += 1
        plain = name if name in MOVEMENT else name.removesuffix("_")
        if plain in _SUMS:
            _SUMS[plain](name, args, kwargs)
        elif plain not in ELEMENTWISE and plain not in ORDER_FREE and plain not in MOVEMENT:
            raise NotExact(f"{name}: not among the operators that give the same bits everywhere")
        elif plain in ("add", "sub", "rsub") and kwargs.get("alpha", 1) != 1:
            raise NotExact(f"{name} with alpha={kwargs['alpha']}: a kernel may fuse the multiplication")
        return func(*args, **kwargs)


def _check_sum(name: str, args: Any, kwargs: Any) -> None:
    x = args[0]
    if not x.is_floating_point():
        return
    dim = args[1] if len(args) > 1 and args[1] else None
    whole = _whole(name, x)
    total = whole.abs().sum() if dim is None else whole.abs().sum(dim=dim)
    _bounded(name, total, x.dtype)


def _check_product(name: str, args: Any, kwargs: Any) -> None:
    a, b = args[:2]
    if a.is_floating_point():
        _bounded(name, _whole(name, a).abs() @ _whole(name, b).abs(), a.dtype)


def _check_convolution(name: str, args: Any, kwargs: Any) -> None:
    x, weight, bias, stride, padding = args[:5]
    if bias is not None:
        raise NotExact(f"{name} with a bias: where the bias is added is the library's choice")
    sums = torch.nn.functional.conv2d(
        _whole(name, x).abs(), _whole(name, weight).abs(), stride=tuple(stride), padding=tuple(padding)
    )
    _bounded(name, sums, x.dtype)


def _check_int_mm(name: str, args: Any, kwargs: Any) -> None:
    if args[0].dtype != torch.int8 or args[1].dtype != torch.int8:
        raise NotExact(f"{name} of {args[0].dtype} and {args[1].dtype}: expected int8")


_SUMS: dict[str, Callable[[str, Any, Any], None]] = {
    "sum": _check_sum,
    "mm": _check_product,
    "bmm": _check_product,
    "mv": _check_product,
    "dot": _check_product,
    "convolution": _check_convolution,
    "_int_mm": _check_int_mm,
}


def _whole(name: str, x: Tensor) -> Tensor:
    """``x`` as whole numbers in float64, after one power of two; or :class:`NotExact`."""
    if x.dtype not in _EXACT_BITS:
        raise NotExact(f"{name} of {x.dtype}: sums of this type round")
    wide = x.detach().double()
    for scale in (1.0, 2.0**14, 2.0**30):
        scaled = wide * scale
        if torch.equal(scaled, scaled.round()):
            return scaled
    raise NotExact(f"{name} of {tuple(x.shape)} {x.dtype} that are not whole numbers: its result depends on the order")


def _bounded(name: str, magnitudes: Tensor, dtype: torch.dtype) -> None:
    bits = _EXACT_BITS[dtype]
    largest = float(magnitudes.max()) if magnitudes.numel() else 0.0
    if largest > 2.0**bits:
        raise NotExact(f"{name} of whole numbers whose sum may reach {largest:.3g}: above 2^{bits} {dtype} rounds")
