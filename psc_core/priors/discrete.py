"""A discrete-time diffusers pixel model (``google/ddpm-*`` and the like) as a denoiser D(x, sigma)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.priors.schedule import DiscreteSchedule, read_schedule
from psc_core.priors.unet import UNetPrior


class DiscreteUNetPrior(UNetPrior):
    """A ``UNet2DModel`` that predicts noise, the image or v from x_t = (x + sigma n) / sqrt(1 + sigma^2)."""

    def __init__(
        self, folder: Path, *, name: str | None = None, arithmetic: str = "exact", device: str = "cpu"
    ) -> None:
        """folder: a diffusers pipeline's, with ``unet/`` and ``scheduler/``, or both configurations side by side."""
        self.schedule = self._read_schedule(folder)
        self.sigma_min, self.sigma_max = self.schedule.sigmas[0], self.schedule.sigmas[-1]
        unet = folder / "unet" if (folder / "unet").is_dir() else folder
        about = self.schedule.about | self._about()
        super().__init__(unet, name=name or folder.name, arithmetic=arithmetic, device=device, about=about)
        config = self._net.config
        if config["in_channels"] != 3 or config["out_channels"] not in (3, 6):
            raise InvalidPrior(f"{unet}: a model of {config['in_channels']} channels; expected one of RGB images")
        if config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None:
            raise InvalidPrior(f"{unet}: a class-conditional model; class labels are not supported yet")
        self.multiple = 2 ** (len(config["block_out_channels"]) - 1)
        size = config.get("sample_size")
        attends = any("Attn" in kind for kind in (*config["down_block_types"], *config["up_block_types"]))
        self.native_size = int(size) if attends and isinstance(size, int) else None

    def _read_schedule(self, folder: Path) -> DiscreteSchedule:
        return read_schedule(folder)

    def _about(self) -> dict[str, Any]:
        """What decides the denoiser beside schedule and weights."""
        return {}

    def _precondition(self, network: Callable[[Tensor, float], Tensor], x_NCHW: Tensor, sigma: float) -> Tensor:
        scale, timestep = 1 / float(np.sqrt(1 + sigma * sigma)), self.schedule.timestep(sigma)
        out = network(x_NCHW * float(np.float32(scale)), timestep)[:, :3]  # learned variances are not used
        if self.schedule.prediction == "epsilon":
            x0 = x_NCHW - out * float(np.float32(sigma))
        elif self.schedule.prediction == "v_prediction":
            x0 = x_NCHW * float(np.float32(scale * scale)) - out * float(np.float32(sigma * scale))
        else:
            x0 = out
        return x0 if self.schedule.clip is None else x0.clamp(-self.schedule.clip, self.schedule.clip)
