"""Sections 7.1 and 7.2: an EDM network from its folder's files, in exact layers."""

from __future__ import annotations

import json
import math
from decimal import Context, Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.format.arithmetic import PI, exp, ln, sigmoid

f32 = np.float32


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """A safetensors file's tensors."""
    raw = path.read_bytes()
    head = int.from_bytes(raw[:8], "little")
    kinds = {"F16": "<f2", "F32": "<f4"}
    found = {}
    for name, about in json.loads(raw[8 : 8 + head]).items():
        if name != "__metadata__":
            start, end = (8 + head + place for place in about["data_offsets"])
            found[name] = np.frombuffer(raw[start:end], kinds[about["dtype"]]).reshape(about["shape"])
    return {name: tensor.astype(np.float32) for name, tensor in found.items()}


class Network:
    """D(x, sigma) of a folder; x is (C, H, W) float32."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "prior.json").read_text())
        self.config = json.loads((folder / "config.json").read_text())
        self.w = safetensors(folder / "diffusion_pytorch_model.safetensors")
        self.MULTIPLE = self.settings["size_multiple"]
        self.SIGMA_MIN, self.SIGMA_MAX = float(self.settings["sigma_min"]), float(self.settings["sigma_max"])
        self.embedding = cache(self._embedding)
        self.modulation = cache(self._modulation)
        self.kernel = cache(self._kernel)

    def denoise(self, x: np.ndarray, sigma: float) -> np.ndarray:
        data, u = float(self.settings["sigma_data"]), self.settings["pixel_unshuffle"]
        q = sigma * sigma + data * data
        root = math.sqrt(q)
        skip, out, into = (f32(v) for v in (data * data / q, sigma * data / root, 1.0 / root))
        timestep = 250 * (ln(sigma) / 4 + 1.4)
        return x * skip + _shuffle(self.call(_unshuffle(x * into, u), timestep), u) * out

    def call(self, x: np.ndarray, t: float) -> np.ndarray:
        """F(x, t); within, tensors are (H, W, C)."""
        h = self.fine("conv_in", np.ascontiguousarray(x.transpose(1, 2, 0)))
        skips, blocks = [h], len(self.config["block_out_channels"])
        for b in range(blocks):
            for r in range(self.config["layers_per_block"]):
                h = self.residual(f"down_blocks.{b}.resnets.{r}", h, t)
                skips.append(h)
            if b < blocks - 1:
                h = self.conv(f"down_blocks.{b}.downsamplers.0.conv", codes(h), stride=2)
                skips.append(h)
        for b in range(blocks):
            for r in range(self.config["layers_per_block"] + 1):
                joined = np.concatenate((h, skips.pop()), axis=2)
                h = self.residual(f"up_blocks.{b}.resnets.{r}", joined, t)
            if b < blocks - 1:
                code, scale, zero = codes(h)
                h = self.conv(f"up_blocks.{b}.upsamplers.0.conv", (code.repeat(2, 0).repeat(2, 1), scale, zero))
        gamma, beta = self.w["conv_norm_out.weight"], self.w["conv_norm_out.bias"]
        h = self.conv("conv_out", codes(silu(self.norm(h, gamma.astype(float), beta.astype(float)))))
        return h.transpose(2, 0, 1)

    def residual(self, name: str, x: np.ndarray, t: float) -> np.ndarray:
        gamma, beta = (self.w[f"{name}.norm1.{part}"].astype(float) for part in ("weight", "bias"))
        h = self.conv(f"{name}.conv1", codes(silu(self.norm(x, gamma, beta))))
        rest = self.fine(f"{name}.conv_shortcut", x) if f"{name}.conv_shortcut.weight" in self.w else x
        return self.conv(f"{name}.conv2", codes(silu(self.norm(h, *self.modulation(name, t)))), residual=rest)

    def norm(self, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        groups = self.config["norm_num_groups"]
        height, width, channels = x.shape
        spread = channels // groups
        peak = np.abs(x).max() or f32(1)
        n = np.rint(x * (f32(2047) / peak))
        s1 = n.astype(float).sum(axis=(0, 1)).reshape(groups, spread).sum(axis=1)
        s2 = (n * n).astype(float).sum(axis=(0, 1)).reshape(groups, spread).sum(axis=1)
        count = float(height * width * spread)
        mean = s1 / count
        variance = np.maximum(s2 / count - mean * mean, 0.0)
        unit = float(peak) / 2047.0
        deviation = np.sqrt(variance * (unit * unit) + self.config["norm_eps"])
        a = gamma / deviation.repeat(spread)
        b = beta - (mean * unit).repeat(spread) * a
        y = x * a.astype(np.float32)
        return y + b.astype(np.float32)

    def conv(self, name: str, coded: Any, *, stride: int = 1, residual: Any = None, bias: bool = True) -> np.ndarray:
        code, scale, zero = coded
        whole, unit, offset = self.kernel(name)
        size, pad = whole.shape[0], whole.shape[0] // 2
        x = np.pad(code - zero, ((pad, pad), (pad, pad), (0, 0)))
        height, width = ((n - size) // stride + 1 for n in x.shape[:2])
        total = np.zeros((height, width, whole.shape[3]))
        for i in range(size):
            for j in range(size):
                seen = x[i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
                total += seen @ whole[i, j]
        out = total.astype(np.float32) * (scale * unit)
        out = out + offset if bias else out + f32(0)
        return out if residual is None else out + residual

    def fine(self, name: str, x: np.ndarray) -> np.ndarray:
        code, scale, zero = codes(x)
        left = x - (code - zero).astype(np.float32) * scale
        return self.conv(name, (code, scale, zero), residual=self.conv(name, codes(left), bias=False))

    def _kernel(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whole weights (size, size, in, out), their scales, the bias."""
        w = self.w[f"{name}.weight"]
        peak = np.abs(w).max(axis=(1, 2, 3))
        unit = np.where(peak == 0, f32(1), peak) * f32(1 / 127)
        whole = np.clip(np.rint(w / unit[:, None, None, None]), -127, 127)
        return whole.transpose(2, 3, 1, 0).astype(float), unit, self.w[f"{name}.bias"]

    def _embedding(self, t: float) -> np.ndarray:
        half = self.config["block_out_channels"][0] // 2
        rates = [exp(-ln(10_000) * i / (half - self.config["freq_shift"])) for i in range(half)]
        pairs = [_sin_cos(t * rate) for rate in rates]
        vector = np.array([c for _, c in pairs] + [s for s, _ in pairs])
        return self.linear("time_embedding.linear_2", _silu(self.linear("time_embedding.linear_1", vector)))

    def _modulation(self, name: str, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The second norm's affine map under a time."""
        gamma, beta = (self.w[f"{name}.norm2.{part}"].astype(float) for part in ("weight", "bias"))
        scale, shift = np.split(self.linear(f"{name}.time_emb_proj", _silu(self.embedding(t))), 2)
        return gamma * (scale + 1.0), beta * (scale + 1.0) + shift

    def linear(self, name: str, vector: np.ndarray) -> np.ndarray:
        whole = np.clip(np.rint(self.w[f"{name}.weight"].astype(float) * 2.0**16), -(2.0**21), 2.0**21)
        n = np.clip(np.rint(vector * 2.0**14), -(2.0**20), 2.0**20)
        return (whole @ n) * 2.0**-30 + self.w[f"{name}.bias"].astype(float)


def codes(x: np.ndarray) -> tuple[np.ndarray, np.float32, float]:
    low, high = min(x.min(), f32(0)), max(x.max(), f32(0))
    reach = high - low or f32(1)
    factor = f32(255) / reach
    zero = -np.rint(low * factor)
    code = np.clip(np.rint(x * factor) + zero, 0, 255)
    return code.astype(float), reach * f32(1 / 255), float(zero)


@cache
def _sigmoids() -> np.ndarray:
    return np.array([sigmoid(i / 64) for i in range(-1023, 1024)]).astype(np.float32)


def silu(y: np.ndarray) -> np.ndarray:
    return y * _sigmoids()[np.clip(np.rint(y * f32(64)), -1023, 1023).astype(int) + 1023]


def _silu(vector: np.ndarray) -> np.ndarray:
    return vector * np.array([sigmoid(float(v)) for v in vector])


def _sin_cos(x: float) -> tuple[float, float]:
    with localcontext(Context(prec=40)):
        angle = Decimal(x) % (2 * PI)
        return tuple(float(_series(angle, first)) for first in (1, 0))  # type: ignore[return-value]


def _series(angle: Decimal, first: int) -> Decimal:
    term = angle if first else Decimal(1)
    total, n = term, first
    while abs(term) > Decimal(10) ** -38:
        term = -term * angle * angle / ((n + 1) * (n + 2))
        total, n = total + term, n + 2
    return total


def _unshuffle(x: np.ndarray, u: int) -> np.ndarray:
    c, height, width = x.shape
    x = x.reshape(c, height // u, u, width // u, u)
    return x.transpose(0, 2, 4, 1, 3).reshape(c * u * u, height // u, width // u)


def _shuffle(x: np.ndarray, u: int) -> np.ndarray:
    c, height, width = x.shape
    x = x.reshape(c // (u * u), u, u, height, width)
    return x.transpose(0, 3, 1, 4, 2).reshape(c // (u * u), height * u, width * u)
