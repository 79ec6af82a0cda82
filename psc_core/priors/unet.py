"""What priors made of a diffusers ``UNet2DModel`` share: loading, the exact or float network, the fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psc_core.exact.unet import ExactUNet, embedding_settings
from psc_core.priors.base import Prior
from psc_core.priors.parts import hash_weights, load_network
from psc_core.priors.plain_unet import read_plain_unet


class UNetPrior(Prior):
    """A denoiser around a UNet; subclasses say how a noise level becomes its input and its timestep."""

    def __init__(self, folder: Path, *, name: str, arithmetic: str, device: str, about: dict[str, Any]) -> None:
        """folder: of the UNet's config.json and weights. about: what else decides the result, for the fingerprint."""
        self.name, self.arithmetic, self.device = name, arithmetic, torch.device(device)
        self._folder = folder
        model = self._load() if arithmetic == "float" else self._layers()
        self.parameters = sum(p.numel() for p in model.parameters())
        self._net: Any = ExactUNet(model, self.device) if arithmetic == "exact" else model
        self.fingerprint = self._fingerprint(about)
        if arithmetic == "float":
            self._net = self._placed(model)

    @property
    def _float_net(self) -> Any:
        if "float" not in self.shared:
            self.shared["float"] = self._net if self.arithmetic == "float" else self._placed(self._load())
        return self.shared["float"]

    def _placed(self, model: Any) -> Any:
        """The float network where it runs; where all arithmetic is float, a GPU takes it in bfloat16."""
        halves = self.arithmetic == "float" and self.device.type == "cuda"
        model = model.to(self.device, dtype=torch.bfloat16 if halves else torch.float32)
        return model.to(memory_format=torch.channels_last)

    def _load(self) -> Any:
        """The float32 network."""
        return load_network(self._folder, "UNet2DModel")

    def _layers(self) -> Any:
        """Its layers, of which the exact network is made."""
        return read_plain_unet(self._folder) or self._load()

    @property
    def backend(self) -> str:
        """Which exact backend runs, or "float"."""
        return self._net.backend.name if self.arithmetic == "exact" else "float"

    def _fingerprint(self, about: dict[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        if self.arithmetic == "exact":
            digest.update(self._net.fingerprint.encode())
        else:
            hash_weights(digest, self._net)
            digest.update(embedding_settings(self._net.config).encode())
        return digest.hexdigest()[:32]

    @torch.no_grad()
    def _denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        return self._precondition(self._network, x_NCHW, sigma)

    def denoise_differentiably(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        self.count(len(x_NCHW))
        return self._precondition(self._float_network, x_NCHW, sigma)

    def _precondition(self, network: Callable[[Tensor, float], Tensor], x_NCHW: Tensor, sigma: float) -> Tensor:
        """D(x, sigma) by one call network(input, timestep); elementwise IEEE operations alone."""
        raise NotImplementedError

    def _network(self, u_NCHW: Tensor, timestep: float) -> Tensor:
        if self.arithmetic == "float":
            return self._float_network(u_NCHW, timestep)
        embedding = self._net.embed(timestep, self._label())
        return self._net(u_NCHW.permute(0, 2, 3, 1).contiguous(), embedding).permute(0, 3, 1, 2)

    def _float_network(self, u_NCHW: Tensor, timestep: float) -> Tensor:
        net, label = self._float_net, self._label()
        u = u_NCHW.to(net.dtype).contiguous(memory_format=torch.channels_last)
        classes = None if label is None else torch.tensor([label], dtype=torch.int64, device=self.device)
        return net(
            u, torch.tensor([timestep], dtype=torch.float32, device=self.device), class_labels=classes
        ).sample.float()

    def _label(self) -> int | None:
        """The class that the network is told, if it takes one."""
        return None
