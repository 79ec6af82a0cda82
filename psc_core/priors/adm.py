"""ADM (Dhariwal & Nichol 2021): a checkpoint of openai/guided-diffusion as a denoiser D(x, sigma)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psc_core.priors.adm_checkpoint import about, flags_of, read_tensors, shape_of
from psc_core.priors.adm_layout import unet_of
from psc_core.priors.discrete import DiscreteUNetPrior
from psc_core.priors.schedule import DiscreteSchedule


class AdmPrior(DiscreteUNetPrior):
    """``256x256_diffusion.pt`` and the like: read where it lies, converted to diffusers' UNet in memory."""

    def __init__(self, path: Path, *, name: str | None = None, arithmetic: str = "exact", device: str = "cpu") -> None:
        """path: of the checkpoint; see :mod:`psc_core.priors.adm_checkpoint` for what may lie beside it."""
        self._path = path
        self._shape = shape_of(read_tensors(path), path)
        self._flags = flags_of(path, self._shape)
        super().__init__(path, name=name or path.stem, arithmetic=arithmetic, device=device)

    def _read_schedule(self, folder: Path) -> DiscreteSchedule:
        return DiscreteSchedule(self._flags.scheduler())

    def _about(self) -> dict[str, Any]:
        return about(self._shape, self._flags)

    def _null_class(self, unet: Path) -> int | None:
        return None if self._flags.null_class == -1 else self._flags.null_class

    def _load(self) -> Any:
        return unet_of(read_tensors(self._path), self._shape, self._flags, self._path)
