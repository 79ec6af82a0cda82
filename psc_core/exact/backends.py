"""Choosing a backend: the fastest one that passes its known-answer test in this process."""

from __future__ import annotations

import os
from functools import cache

import torch

from psc_core.errors import PscError
from psc_core.exact.integers import ACTIVATION_MAX, WEIGHT_MAX, Backend, QuantizedWeight, TorchQuantized
from psc_core.exact.native import Native, NativeAmx, NativeAvx2, NativeAvx512Vnni, NativeAvxVnni, NativePortable
from psc_core.exact.torch_backends import BFloat16MM, Float32MM, IntMM

VARIABLE = "PSC_EXACT_BACKEND"
"""Environment variable that names the backend to use; one that fails its test is then an error."""


def backend_names(device: str = "cpu") -> list[str]:
    """Backends for a kind of device, fastest first."""
    return list(_CUDA if torch.device(device).type == "cuda" else _CPU)


@cache
def get_backend(device: str = "cpu", name: str | None = None) -> Backend:
    """The backend ``name``, or the first that passes its known-answer test on ``device``.

    Raises:
        PscError: the named backend is unknown or wrong here, or (never seen) none is right.
    """
    table = _CUDA if torch.device(device).type == "cuda" else _CPU
    wanted = name or os.environ.get(VARIABLE)
    if wanted is not None and wanted not in table:
        raise PscError(f"no exact backend {wanted!r} on {device}; choose one of {', '.join(table)}")
    for candidate in [wanted] if wanted else list(table):
        if known_answer(candidate, device):
            found = table[candidate]()
            found.device = device
            return found
        if wanted:
            raise PscError(f"exact backend {wanted!r} fails its known-answer test on {device}: unset {VARIABLE}")
    raise PscError(f"no exact backend gives right sums on {device}: tried {', '.join(table)}")


@cache
def known_answer(name: str, device: str = "cpu") -> bool:
    """Whether backend ``name`` can run on ``device`` and gives the right integers, extremes included."""
    table = _CUDA if torch.device(device).type == "cuda" else _CPU
    try:
        backend = table[name]()
        convolves = all(_agrees(backend, device, *case) for case in _CASES)
        return convolves and _elementwise_agrees(backend, device) and _multiplies(backend, device)
    except (RuntimeError, OSError, NotImplementedError, TypeError, ImportError):
        return False


_LOW, _HIGH = -(ACTIVATION_MAX // 2), ACTIVATION_MAX - ACTIVATION_MAX // 2
_CASES = (
    (16, 24, 3, 1, 1, False),
    (232, 8, 3, 1, 1, True),
    (48, 40, 1, 1, 0, True),
    (20, 16, 3, 2, 1, False),
)
"""(channels in, channels out, kernel, stride, padding, all values at their extremes)."""


def _agrees(
    backend: Backend,
    device: str,
    channels: int,
    out: int,
    size: int,
    stride: int,
    padding: int,
    extreme: bool,
) -> bool:
    state = torch.arange(2 * 9 * 7 * channels, dtype=torch.int64, device="cpu").view(2, 9, 7, channels)
    ints = state * 2654435761 % (ACTIVATION_MAX + 1) + _LOW
    index = torch.arange(out * size * size * channels, dtype=torch.int64, device="cpu").view(out, size, size, channels)
    weights = index * 40503 % (2 * WEIGHT_MAX + 1) - WEIGHT_MAX
    if extreme:
        ints = torch.where(ints < -60, _LOW, _HIGH)
        weights = torch.where(weights < -80, -WEIGHT_MAX, WEIGHT_MAX)
    weight = QuantizedWeight(weights.to(torch.int8), *_plain(out), stride, padding).to(device)
    x = ints.float().to(device)
    # The extremes make the scale 1, so that quantizing gives the integers back.
    x[:, 0, 0, 0], x[:, 1, 0, 0] = _HIGH, _LOW
    want = _slow(x.cpu().long(), weights, stride, padding)
    got = backend.conv(backend.quantize(x), weight)
    return torch.equal(got.double().cpu(), want.double())


def _plain(outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales of one and biases of zero."""
    ones = torch.ones(outputs, dtype=torch.float32, device="cpu")
    return ones, torch.zeros_like(ones)


def _elementwise_agrees(backend: Backend, device: str) -> bool:
    """Whether norm, SiLU and rounding give the reference's codes; the identity as a convolution reads them."""
    place = torch.arange(2 * 9 * 7 * 24, dtype=torch.int64, device="cpu").view(2, 9, 7, 24)
    x = (place * 2654435761 % 4093).float() / 256 - 8
    count = torch.arange(24, dtype=torch.float64, device="cpu")
    gamma, beta = (count - 9) / 4, (count - 15) / 8
    identity = QuantizedWeight(torch.eye(24, dtype=torch.int8, device="cpu")[:, None, None], *_plain(24))
    results = []
    for how, where in ((Float32MM(), "cpu"), (backend, device)):
        weight, moved = identity.to(where), x.to(where)
        both = how.join(moved[..., :7].contiguous(), moved[..., 7:].contiguous())
        affine = (gamma.to(where), beta.to(where))
        codes = (
            *(how.norm_quantize(both, *affine, 3, 1e-5, silu) for silu in (True, False)),
            *how.quantize_finely(both),
        )
        results.append(torch.stack([how.conv(q, weight).cpu() for q in codes]))
    return torch.equal(*results)


def _multiplies(backend: Backend, device: str) -> bool:
    """Whether batched products are exact, past the length of one float32 sum and at the extremes."""
    place = torch.arange(2 * 5 * 1100, dtype=torch.int64, device="cpu").view(2, 5, 1100)
    a = torch.where(place % 7 < 5, ACTIVATION_MAX, place * 40503 % (ACTIVATION_MAX + 1))
    b = torch.where(place % 11 < 9, WEIGHT_MAX, place * 2654435761 % (2 * WEIGHT_MAX + 1) - WEIGHT_MAX)
    got = backend.bmm(a.float().to(device), b.float().to(device).transpose(1, 2))
    want = (a[:, :, None, :] * b[:, None, :, :]).sum(-1)
    return torch.equal(got.double().cpu(), want.double())


def _slow(ints: torch.Tensor, weights: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
    """The convolution in int64, a shift at a time."""
    size = weights.shape[1]
    x = torch.nn.functional.pad(ints, (0, 0, padding, padding, padding, padding))
    height, width = ((x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1)
    out = torch.zeros(x.shape[0], height, width, weights.shape[0], dtype=torch.int64, device="cpu")
    for i in range(size):
        for j in range(size):
            view = x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
            out += (view[..., None, :] * weights[:, i, j, :]).sum(-1)
    return out


_CPU: dict[str, type] = {
    "native": Native,
    "int_mm": IntMM,
    "float32": Float32MM,
    "native_amx": NativeAmx,
    "native_avx512vnni": NativeAvx512Vnni,
    "native_avxvnni": NativeAvxVnni,
    "native_avx2": NativeAvx2,
    "native_portable": NativePortable,
}
_CUDA: dict[str, type] = {"int_mm": IntMM, "bfloat16": BFloat16MM, "float32": Float32MM}

__all__ = ["Backend", "TorchQuantized", "backend_names", "get_backend", "known_answer"]
