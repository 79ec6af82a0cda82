"""The parts of a diffusers pipeline's folder: configurations and float32 networks, each or an error that names it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from psc_core.errors import InvalidPrior
from psc_core.priors.settings import read_object

CLASSES = {
    "UNet2DModel": "diffusers",
    "UNet2DConditionModel": "diffusers",
    "AutoencoderKL": "diffusers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "CLIPTokenizer": "transformers",
}
"""What can be loaded, and the library that holds it."""
_FLOAT32: dict[str, dict[str, Any]] = {
    "diffusers": {"torch_dtype": torch.float32, "low_cpu_mem_usage": False},
    "transformers": {"dtype": torch.float32},
}
"""Weights as they are stored, whatever torch's default dtype."""


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A part's configuration. Raises :class:`InvalidPrior`."""
    return read_object(folder / name)


def load_network(folder: Path, kind: str | None = None) -> Any:
    """The float32 network of a part's folder, of the class that its configuration names. Raises InvalidPrior."""
    config = read_config(folder)
    kind = str(kind or config.get("_class_name") or (config.get("architectures") or ["?"])[0])
    own = _FLOAT32.get(CLASSES.get(kind, ""), {})
    model, said = load(folder, kind, output_loading_info=True, **own)
    # The libraries fill such places with random numbers, and only warn.
    absent = [*said["missing_keys"], *(key if isinstance(key, str) else key[0] for key in said["mismatched_keys"])]
    if absent:
        names = ", ".join(sorted(absent)[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        raise InvalidPrior(f"{folder}: its weights lack, or have in another shape, what {kind} needs: {names}")
    return model.float().eval().requires_grad_(False)


def load(folder: Path, kind: str, **options: Any) -> Any:
    """What ``kind.from_pretrained(folder)`` gives, offline and in silence."""
    if kind not in CLASSES:
        raise InvalidPrior(f"{folder}: no exact form of {kind} (known: {', '.join(CLASSES)})")
    library = CLASSES[kind]
    try:
        _quiet(library)
        return getattr(import_module(library), kind).from_pretrained(str(folder), local_files_only=True, **options)
    except ImportError as error:
        raise InvalidPrior(f"{folder}: {kind} needs {library} ({error}): pip install 'psc-archive[latent]'") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InvalidPrior(f"{folder}: {library} cannot load a {kind} from it: {str(error).splitlines()[0]}") from None


def hash_weights(digest: Any, model: Any) -> None:
    """Add a float network's weights to a digest."""
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())


def _quiet(library: str) -> None:
    logging = import_module(f"{library}.utils.logging")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
