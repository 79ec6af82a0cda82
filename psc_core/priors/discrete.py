"""A discrete-time diffusers pixel model (``google/ddpm-*`` and the like) as a denoiser D(x, sigma)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from psc_core.coding.condition import Condition
from psc_core.errors import InvalidCondition, InvalidPrior
from psc_core.priors.schedule import DiscreteSchedule, read_schedule
from psc_core.priors.settings import read_object
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
        self.null_class = self._null_class(unet)
        about = self.schedule.about | self._about()
        super().__init__(unet, name=name or folder.name, arithmetic=arithmetic, device=device, about=about)
        config = self._net.config
        if config["in_channels"] != 3 or config["out_channels"] not in (3, 6):
            raise InvalidPrior(f"{unet}: a model of {config['in_channels']} channels; expected one of RGB images")
        if config.get("class_embed_type") is not None:
            raise InvalidPrior(
                f"{unet}: class_embed_type={config['class_embed_type']!r}; expected num_class_embeds alone"
            )
        self.classes: int | None = config.get("num_class_embeds")
        if self.classes is not None:
            self.condition_kind = "label"
        if self.null_class is not None and not 0 <= self.null_class < (self.classes or 0):
            raise InvalidPrior(f"{unet}: null_class={self.null_class} of {self.classes} classes")
        self.multiple = 2 ** (len(config["block_out_channels"]) - 1)
        size = config.get("sample_size")
        attends = any("Attn" in kind for kind in (*config["down_block_types"], *config["up_block_types"]))
        self.native_size = int(size) if attends and isinstance(size, int) else None

    def _read_schedule(self, folder: Path) -> DiscreteSchedule:
        return read_schedule(folder)

    def _about(self) -> dict[str, Any]:
        """What decides the denoiser beside schedule and weights."""
        return {} if self.null_class is None else {"null_class": self.null_class}

    def _null_class(self, unet: Path) -> int | None:
        """The class that stands for an unknown one: ``null_class`` in the UNet's config.json, where whoever trained it
        with labels left out wrote it."""
        path = unet / "config.json"
        found = read_object(path).get("null_class") if path.is_file() else None
        if found is not None and type(found) is not int:
            raise InvalidPrior(f"{path}: null_class={found!r}: expected the number of a class")
        return found

    def check_condition(self, condition: Condition) -> None:
        """See :meth:`Prior.check_condition`; a label must be one of the model's classes, and unknown only if it has one
        for that."""
        super().check_condition(condition)
        if self.classes is None or self._class_of(condition) in range(self.classes):
            return
        given = "no class label" if condition is None else f"class label {condition}"
        raise InvalidCondition(
            f"{given}: prior {self.name!r} needs one of 0 to {self.classes - 1} for every image (psc compress --labels)"
        )

    def _class_of(self, condition: Condition) -> Any:
        return self.null_class if condition is None else condition

    def _label(self) -> int | None:
        self.check_condition(self.condition)
        return self._class_of(self.condition)

    def _precondition(self, network: Callable[[Tensor, float], Tensor], x_NCHW: Tensor, sigma: float) -> Tensor:
        return self.schedule.denoised(network, x_NCHW, sigma)
