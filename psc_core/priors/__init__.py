"""Priors by name: the bundled ones, the analytic Gaussian, or a folder on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.priors.base import Prior

HERE = Path(__file__).parent
BUNDLED = ("photo",)


def prior_names() -> list[str]:
    """Names that need no path."""
    return [*BUNDLED, "gaussian"]


def load_prior(name_or_path: str | Path = "photo", *, arithmetic: str = "exact", device: str = "auto") -> Prior:
    """Load a prior.

    Args:
        name_or_path: "photo" (bundled), "gaussian" (analytic, for tests) or a folder holding a diffusers model.
        arithmetic: "exact" (the same bits on any machine) or "float".
        device: a torch device, or "auto" for CUDA where there is one.

    Raises:
        PriorNotFound: neither a known name nor a folder. InvalidPrior: cannot be used; says why.
    """
    if arithmetic not in ("exact", "float"):
        raise InvalidPrior(f"arithmetic={arithmetic!r}: expected 'exact' or 'float'")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if name_or_path == "gaussian":
        from psc_core.priors.gaussian import GaussianPrior

        return GaussianPrior(arithmetic=arithmetic, device=where)
    from psc_core.priors.edm_unet import EdmUNetPrior

    if name_or_path in BUNDLED:
        return EdmUNetPrior(HERE / str(name_or_path), name=str(name_or_path), arithmetic=arithmetic, device=where)
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise PriorNotFound(
            f"no prior {str(name_or_path)!r}: neither a folder nor one of {', '.join(prior_names())}. "
            "Models from a hub: download the folder first and give its path"
        )
    return EdmUNetPrior(folder, arithmetic=arithmetic, device=where)
