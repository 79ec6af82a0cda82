"""A diffusers ``UNet2DModel`` under EDM preconditioning (Karras et al. 2022, Table 1), in exact or float arithmetic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.exact import transcendental
from psc_core.exact.unet import ExactUNet
from psc_core.priors.base import Prior

PRIOR_FILE = "prior.json"
_NEEDED = ("parametrization", "sigma_data", "pixel_unshuffle", "sigma_min", "sigma_max", "size_multiple")


class EdmUNetPrior(Prior):
    """D(x, s) = c_skip x + c_out F(pixel_unshuffle(c_in x, 2), 250 (ln(s) / 4 + 1.4))."""

    def __init__(
        self, folder: Path, *, name: str | None = None, arithmetic: str = "exact", device: str = "cpu"
    ) -> None:
        self.settings = read_settings(folder)
        self.name = name or self.settings.get("name") or folder.name
        self.arithmetic = arithmetic
        self.device = torch.device(device)
        self.sigma_data = float(self.settings["sigma_data"])
        self.sigma_min, self.sigma_max = float(self.settings["sigma_min"]), float(self.settings["sigma_max"])
        self.unshuffle, self.multiple = (
            int(self.settings["pixel_unshuffle"]),
            int(self.settings["size_multiple"]),
        )
        self._folder = folder
        self._net: Any = ExactUNet(_load_unet(folder), self.device) if arithmetic == "exact" else self._float_net
        self.fingerprint = self._fingerprint()

    @cached_property
    def _float_net(self) -> Any:
        return _load_unet(self._folder).to(self.device, memory_format=torch.channels_last)

    @property
    def backend(self) -> str:
        """Which exact backend runs, or "float"."""
        return self._net.backend.name if self.arithmetic == "exact" else "float"

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps({k: self.settings[k] for k in _NEEDED}, sort_keys=True).encode())
        if self.arithmetic == "exact":
            digest.update(self._net.fingerprint.encode())
        else:
            for key, value in sorted(self._net.state_dict().items()):
                digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    @torch.no_grad()
    def _denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        return self._precondition(self._network, x_NCHW, sigma)

    def denoise_differentiably(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        self.nfe += len(x_NCHW)
        return self._precondition(self._float_network, x_NCHW, sigma)

    def _precondition(self, network: Callable[[Tensor, float], Tensor], x_NCHW: Tensor, sigma: float) -> Tensor:
        c_skip, c_out, c_in = preconditioning(sigma, self.sigma_data)
        timestep = 250 * (transcendental.ln(sigma) / 4 + 1.4)
        f = network(torch.pixel_unshuffle(x_NCHW * c_in, self.unshuffle), timestep)
        scaled = torch.pixel_shuffle(f, self.unshuffle) * c_out
        return x_NCHW * c_skip + scaled

    def _network(self, u_NCHW: Tensor, timestep: float) -> Tensor:
        if self.arithmetic == "float":
            return self._float_network(u_NCHW, timestep)
        return self._net(u_NCHW.permute(0, 2, 3, 1).contiguous(), self._net.embed(timestep)).permute(0, 3, 1, 2)

    def _float_network(self, u_NCHW: Tensor, timestep: float) -> Tensor:
        u = u_NCHW.contiguous(memory_format=torch.channels_last)
        return self._float_net(u, torch.tensor([timestep], device=self.device)).sample


def preconditioning(sigma: float, sigma_data: float) -> tuple[float, float, float]:
    """(c_skip, c_out, c_in) of EDM, Table 1, rounded to float32."""
    square = sigma * sigma + sigma_data * sigma_data
    root = float(np.sqrt(square))
    values = (sigma_data * sigma_data / square, sigma * sigma_data / root, 1.0 / root)
    return tuple(float(np.float32(v)) for v in values)  # type: ignore[return-value]


def read_settings(folder: Path) -> dict[str, Any]:
    """A prior folder's ``prior.json``. Raises :class:`PriorNotFound` or :class:`InvalidPrior`."""
    path = folder / PRIOR_FILE
    if not path.is_file():
        raise PriorNotFound(f"{folder} holds no {PRIOR_FILE}: expected a folder written by `psc train-prior`")
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise InvalidPrior(f"{path} is not JSON: {error}") from None
    if missing := [key for key in _NEEDED if key not in settings]:
        raise InvalidPrior(f"{path} lacks {', '.join(missing)}")
    if not str(settings["parametrization"]).startswith("edm"):
        raise InvalidPrior(f"{path}: parametrization {settings['parametrization']!r} is unknown (expected 'edm…')")
    return settings


def _load_unet(folder: Path) -> Any:
    from diffusers import UNet2DModel
    from diffusers.utils import logging

    logging.set_verbosity_error()
    try:
        model = UNet2DModel.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidPrior(f"{folder}: diffusers cannot load a UNet2DModel from it: {error}") from None
    return model.float().eval().requires_grad_(False)
