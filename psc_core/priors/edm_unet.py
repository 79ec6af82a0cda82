"""A diffusers ``UNet2DModel`` under EDM preconditioning (Karras et al. 2022, Table 1), in exact or float arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.exact import transcendental
from psc_core.priors.settings import number, read_object, whole
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
        self.unshuffle, self.multiple = settings["pixel_unshuffle"], settings["size_multiple"]
        about = {key: settings[key] for key in _NEEDED}
        name = name or settings.get("name") or folder.name
        super().__init__(folder, name=name, arithmetic=arithmetic, device=device, about=about)
        self._check_sizes(folder / PRIOR_FILE)

    def _check_sizes(self, path: Path) -> None:
        """The network takes what ``pixel_unshuffle`` makes, and halves it once a level."""
        config = self._net.config
        channels, levels = 3 * self.unshuffle * self.unshuffle, len(config["block_out_channels"])
        if config["in_channels"] != channels or config["out_channels"] != channels:
            raise InvalidPrior(
                f"{path}: pixel_unshuffle={self.unshuffle} makes {channels} channels of RGB; the network has "
                f"{config['in_channels']} and gives {config['out_channels']}"
            )
        if self.multiple % (side := self.unshuffle * (1 << levels - 1)):
            raise InvalidPrior(
                f"{path}: size_multiple={self.multiple}: expected a multiple of {side}, for {levels} levels "
                f"of a network after pixel_unshuffle={self.unshuffle}"
            )

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
    settings = read_object(path)
    if missing := [key for key in _NEEDED if key not in settings]:
        raise InvalidPrior(f"{path} lacks {', '.join(missing)}")
    if not str(settings["parametrization"]).startswith("edm"):
        raise InvalidPrior(f"{path}: parametrization {settings['parametrization']!r} is unknown (expected 'edm…')")
    try:
        _check_fields(settings)
    except InvalidPrior as error:
        raise InvalidPrior(f"{path}: {error}") from None
    return settings


def _check_fields(settings: Mapping[str, Any]) -> None:
    for field in ("sigma_data", "sigma_min", "sigma_max"):
        number(settings, field, 1e-6, 1e6)
    if settings["sigma_min"] >= settings["sigma_max"]:
        raise InvalidPrior(f"sigma_min={settings['sigma_min']}: expected less than sigma_max={settings['sigma_max']}")
    for field in ("pixel_unshuffle", "size_multiple"):
        whole(settings, field, 1, 512)
    if not isinstance(name := settings.get("name") or "", str):
        raise InvalidPrior(f"name={name!r}: expected a text")
