"""Priors by name: the bundled ones, the analytic Gaussian, a folder on disk, or a model on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.priors.base import Prior
from psc_core.priors.settings import read_object

HERE = Path(__file__).parent
BUNDLED = ("photo",)
PRIORS_VARIABLE = "PSC_PRIORS"
"""Environment variable that names a folder of priors: each is known by its name in there."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB_FILES = ["*.json", "*.txt", "*diffusion_pytorch_model.*", "text_encoder*/model.*"]
_NOT_HUB_FILES = ["safety_checker/*", "*.fp16.*", "*.non_ema.*", "*.onnx*", "*.msgpack"]
"""A pipeline's parts, and not the same weights again in one file or in half precision."""


def prior_names() -> list[str]:
    """Names that need no path."""
    return [*BUNDLED, "gaussian"]


def load_prior(name_or_path: str | Path = "photo", *, arithmetic: str = "exact", device: str = "auto") -> Prior:
    """Load a prior.

    Args:
        name_or_path: "photo" (bundled), "gaussian" (analytic, for tests), a folder written by ``psc train-prior`` or
            holding a diffusers pipeline of a UNet2DModel or of Stable Diffusion (1.x, 2.x, XL), such a pipeline's hub
            id ("google/ddpm-…"), or a checkpoint of guided-diffusion ("…/256x256_diffusion.pt").
        arithmetic: "exact" (the same bits on any machine) or "float".
        device: a torch device, or "auto" for CUDA where there is one.

    Raises:
        PriorNotFound: neither a known name nor a folder. InvalidPrior: it, the arithmetic or the device cannot be used;
            says why.
    """
    if arithmetic not in ("exact", "float"):
        raise InvalidPrior(f"arithmetic={arithmetic!r}: expected 'exact' or 'float'")
    where = str(_device(device))
    if not isinstance(name_or_path, str | Path) or not str(name_or_path):
        raise PriorNotFound(f"{name_or_path!r}: expected one of {', '.join(prior_names())}, or a path")
    if isinstance(name_or_path, Path) and not name_or_path.exists() and str(name_or_path) in prior_names():
        name_or_path = str(name_or_path)
    if name_or_path == "gaussian":
        from psc_core.priors.gaussian import GaussianPrior

        return GaussianPrior(arithmetic=arithmetic, device=where)
    from psc_core.priors.edm_unet import PRIOR_FILE, EdmUNetPrior

    if name_or_path in BUNDLED:
        return EdmUNetPrior(HERE / str(name_or_path), name=str(name_or_path), arithmetic=arithmetic, device=where)
    folder = _place(name_or_path)
    if folder.is_file():
        from psc_core.priors.adm import AdmPrior

        return AdmPrior(folder, name=folder.name, arithmetic=arithmetic, device=where)
    if not folder.is_dir():
        folder = _from_hub(str(name_or_path))
    from psc_core.priors.latent import LatentPrior, is_latent

    name = _model_name(folder, name_or_path)
    if is_latent(folder):
        return LatentPrior(folder, name=name, arithmetic=arithmetic, device=where)
    if not (folder / PRIOR_FILE).is_file() and any(folder.rglob("scheduler_config.json")):
        from psc_core.priors.discrete import DiscreteUNetPrior

        return DiscreteUNetPrior(folder, name=name, arithmetic=arithmetic, device=where)
    return EdmUNetPrior(folder, arithmetic=arithmetic, device=where)


def _device(device: str) -> torch.device:
    """Where to compute, if torch can compute there. Raises :class:`InvalidPrior`."""
    expected = "expected auto, cpu, cuda or cuda:N"
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError):
        raise InvalidPrior(f"device={device!r}: {expected}") from None
    if where.type not in ("cpu", "cuda"):
        raise InvalidPrior(f"device={device!r}: {expected}; the codec needs float64, and exact sums")
    try:
        torch.empty(1, dtype=torch.float32, device=where)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidPrior(f"device={device!r}: torch has no such device here ({reason}): give cpu, or auto") from None
    return where


def _place(name_or_path: str | Path) -> Path:
    """Where a prior is: in the folder of priors, if that is named and holds one of this name, else at this path."""
    folder = os.environ.get(PRIORS_VARIABLE)
    named = Path(folder) / name_or_path if folder else None
    return named if named is not None and named.exists() else Path(name_or_path)


def _from_hub(name: str) -> Path:
    """The folder of a hub's model: as it was downloaded before, or downloaded now."""
    known = f"no prior {name!r}: neither a folder nor one of {', '.join(prior_names())}"
    if not _HUB_ID.fullmatch(name):
        raise PriorNotFound(f"{known}. Give a folder, or a model's id on the hub (OWNER/NAME)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for local in (True, False):
        try:
            wanted, unwanted = _HUB_FILES, _NOT_HUB_FILES
            found = snapshot_download(
                name, local_files_only=local, allow_patterns=wanted, ignore_patterns=unwanted, etag_timeout=10
            )
            return Path(found)
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    raise PriorNotFound(f"{known}, and the hub gave no model of that id ({reason}). Download its folder, give its path")


def _model_name(folder: Path, given: str | Path) -> str:
    """What a stream calls a pipeline's folder: the hub id that it came from, where it says so, else its own name."""
    if not Path(given).is_dir():
        return str(given)
    index = folder / "model_index.json"
    origin = str(read_object(index).get("_name_or_path", "")) if index.is_file() else ""
    return origin if _HUB_ID.fullmatch(origin) and not Path(origin).exists() else folder.resolve().name
