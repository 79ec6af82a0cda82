"""A diffusers ``UNet2DModel`` under EDM preconditioning (Karras et al. 2022, Table 1), in exact or float arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.exact import transcendental
from psc_core.priors.unet import UNetPrior

PRIOR_FILE = "prior.json"
_NEEDED = ("parametrization", "sigma_data", "pixel_unshuffle", "sigma_min", "sigma_max", "size_multiple")


class EdmUNetPrior(UNetPrior):
    """D(x, s) = c_skip x + c_out F(pixel_unshuffle(c_in x, 2), 250 (ln(s) / 4 + 1.4))."""

    orientations = 4
    """Trained on mirrored photographs, and of those upside down the mean gains as much."""

    def __init__(
        self, folder: Path, *, name: str | None = None, arithmetic: str = "exact", device: str = "cpu"
    ) -> None:
        settings = self.settings = read_settings(folder)
        self.sigma_data = float(settings["sigma_data"])
        self.sigma_min, self.sigma_max = float(settings["sigma_min"]), float(settings["sigma_max"])
        self.unshuffle, self.multiple = int(settings["pixel_unshuffle"]), int(settings["size_multiple"])
        about = {key: settings[key] for key in _NEEDED}
        name = name or settings.get("name") or folder.name
        super().__init__(folder, name=name, arithmetic=arithmetic, device=device, about=about)

    def _precondition(self, network: Callable[[Tensor, float], Tensor], x_NCHW: Tensor, sigma: float) -> Tensor:
        c_skip, c_out, c_in = preconditioning(sigma, self.sigma_data)
        timestep = 250 * (transcendental.ln(sigma) / 4 + 1.4)
        f = network(torch.pixel_unshuffle(x_NCHW * c_in, self.unshuffle), timestep)
        scaled = torch.pixel_shuffle(f, self.unshuffle) * c_out
        return x_NCHW * c_skip + scaled


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
