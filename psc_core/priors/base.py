"""What every prior is: a denoiser D(x, sigma) of variance-exploding noise, x_t = x + sigma n."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from psc_core.coding.condition import Condition, checked
from psc_core.errors import InvalidCondition
from psc_core.exact.ambient import undisturbed
from psc_core.memory import Samples

CACHED_PIXELS = 1 << 17
"""Pixels of a call on a CPU: of more, what lies between two layers leaves the caches (measured: a third slower)."""
_COUNTING = Lock()


class Prior(ABC):
    """A denoiser, its own transform between pixels and model space, and a fingerprint of all that it computes.

    Attributes:
        name: how users call it.
        fingerprint: first 128 bits, in hex, of a sha256 over weights and configuration, as used.
        arithmetic: "exact" (integer sums, the same bits anywhere) or "float".
        device: where it runs.
        channels: of model space. scale: pixels a side to one of its places (8 in Stable Diffusion's latents, else 1).
        multiple: both sides of a canvas, in pixels, are multiples of it.
        native_size: side in pixels that the model was made for, if it knows one alone: canvases are no larger.
        orientations: in how many a picture is as likely to it: 1 as it is, 2 mirrored too, 4 upside down too.
        sigma_min, sigma_max: the noise levels at which it can denoise.
        condition_kind: "text" (a prompt), "label" (a class), or None if it takes no condition.
        condition: the one that it has, see :meth:`conditioned`.
    """

    name: str
    fingerprint: str
    arithmetic: str
    device: torch.device
    channels: int = 3
    scale: int = 1
    multiple: int = 1
    native_size: int | None = None
    orientations: int = 1
    sigma_min: float
    sigma_max: float
    parameters: int = 0
    """Of the denoising network."""
    condition_kind: str | None = None
    condition: Condition = None
    pixels_per_call: int = 1 << 19
    """The first samples of a size are denoised in batches of about so many pixels; later ones, on CUDA and in exact
    arithmetic, in batches that fill its memory."""

    own_calls: list[int] | None = None
    """Of the view that counts its own: see :meth:`counting`."""

    @property
    def shared(self) -> dict[str, Any]:
        """What all views of a prior have in common, whichever of them came to it first."""
        return self.__dict__.setdefault("_shared", {})

    @property
    def nfe(self) -> int:
        """Denoiser calls times samples so far, of all views and threads together."""
        return self.shared.get("nfe", 0)

    @nfe.setter
    def nfe(self, calls: int) -> None:
        self.shared["nfe"] = calls

    @property
    def own_nfe(self) -> int:
        """Denoiser calls times samples since :meth:`counting` made this view, of it alone."""
        return sum(self.own_calls or ())

    def counting(self) -> Self:
        """A view that counts its own calls, from 0, whatever other threads do with the same prior."""
        view = self._view()
        view.own_calls = []
        return view

    def count(self, samples: int) -> None:
        """Count denoised samples; every form of denoising does."""
        with _COUNTING:
            self.nfe += samples
        if self.own_calls is not None:
            self.own_calls.append(samples)

    def _view(self) -> Self:
        assert self.shared is not None  # made before it is copied
        return copy(self)

    def conditioned(self, condition: Condition) -> Self:
        """This prior given a prompt or a class label: a view of the same weights, fingerprint and count of calls.

        Raises :class:`InvalidCondition` for one that it cannot take.
        """
        condition = checked(condition)
        self.check_condition(condition)
        if condition == self.condition:
            return self
        view = self._view()
        view.condition = condition
        return view

    def check_condition(self, condition: Condition) -> None:
        """Raise :class:`InvalidCondition` if this prior cannot be given that condition."""
        kinds = {str: "text", int: "label", type(None): self.condition_kind}
        if kinds[type(checked(condition))] != self.condition_kind:
            takes = {"text": "a text prompt", "label": "a class label", None: "no condition"}[self.condition_kind]
            raise InvalidCondition(f"condition={condition!r}: prior {self.name!r} takes {takes}")

    def denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        """The posterior mean E[x | x + sigma n] of every sample: float32, same shape."""
        self.count(len(x_NCHW))
        with undisturbed(self.device):
            return self._samples.call(lambda part: self._denoise(part, sigma), x_NCHW)

    @property
    def _samples(self) -> Samples:
        if "samples" not in self.shared:
            exact = self.arithmetic == "exact"
            most = self.pixels_per_call if self.device.type == "cuda" else min(self.pixels_per_call, CACHED_PIXELS)
            self.shared["samples"] = Samples(self.device, most, free_to_grow=exact)
        return self.shared["samples"]

    def denoise_differentiably(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        """:meth:`denoise` in float arithmetic, for gradients (guidance): not bit-exact."""
        raise NotImplementedError(f"prior {self.name!r} has no differentiable form")

    @abstractmethod
    def _denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor: ...

    def to_model(self, image_HWC: np.ndarray) -> Tensor:
        """uint8 (H, W, 3) to model space (C, H, W), float32 in [-1, 1]."""
        pixels = torch.from_numpy(np.array(image_HWC, order="C")).to(self.device)
        return (pixels.permute(2, 0, 1).float() * float(np.float32(2 / 255))) - 1.0

    def to_pixels(self, x_CHW: Tensor) -> np.ndarray:
        """Model space to uint8 (H, W, 3), rounded half to even."""
        pixels = ((x_CHW + 1.0) * 127.5).round().clamp(0, 255)
        return pixels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    @property
    def environment(self) -> str:
        """What float results depend on; empty for exact arithmetic."""
        if self.arithmetic == "exact":
            return ""
        where = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else torch.backends.cpu.get_cpu_capability()
        )
        kind = f"{self.device.type} bfloat16" if self.device.type == "cuda" else self.device.type
        return f"torch {torch.__version__} {kind} {where} threads={torch.get_num_threads()}"
