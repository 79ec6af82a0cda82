"""What is at a path that may be a model: its kind, size and hashes, read from its files without loading it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psc_core.errors import PscError
from psc_core.priors.settings import read_object

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model. ``bytes`` and ``sha256``: of its weights' files, by their names in its folder."""

    name: str
    kind: str
    path: Path
    parameters: int
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    native_size: int | None = None
    condition: str | None = None
    classes: int | None = None
    problem: str | None = None

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files.values())


def bundled() -> Iterator[Model]:
    """The models that come with this package."""
    from psc_core.priors import BUNDLED

    for name in BUNDLED:
        found = describe(_HERE / name, name)
        if found is not None:
            yield found


def in_hub_cache() -> Iterator[Model]:
    """The models in the Hugging Face cache that are of a kind this project knows."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        newest = max(repository.revisions, key=lambda r: r.last_modified, default=None)
        if repository.repo_type == "model" and newest is not None:
            found = describe(newest.snapshot_path, repository.repo_id)
            if found is not None:
                yield found


def at(path: Path) -> list[Model]:
    """The model at a path, or the models directly below it."""
    found = describe(path, str(path))
    if found is not None or not path.is_dir():
        return [] if found is None else [found]
    below = (describe(entry, str(entry)) for entry in sorted(path.iterdir()))
    return [model for model in below if model is not None]


def describe(path: Path, name: str) -> Model | None:
    """What is at a path, or None if it is no model of a known kind. A model that cannot be used says why."""
    kind = kind_of(path)
    if kind is None:
        return None
    weights = _weights(path, kind)
    facts: dict[str, Any] = {"parameters": 0}
    try:
        facts = _FACTS[kind](path)
        facts["parameters"] = sum(_parameters(file) for file in weights)
        problem = None if weights else "no weights in it"
    except (PscError, OSError, ValueError, KeyError, TypeError) as error:
        problem = str(error) or type(error).__name__
    base = path if path.is_dir() else path.parent
    files = {file.relative_to(base).as_posix(): _file(file) for file in weights}
    return Model(name=name, kind=kind, path=path, files=files, problem=problem, **facts)


def kind_of(path: Path) -> str | None:
    """``edm``: psc train-prior's; ``latent``: Stable Diffusion's; ``discrete``: diffusers' pixel models; ``adm``:
    guided-diffusion's checkpoints.
    """
    if path.is_file():
        return "adm" if path.suffix in (".pt", ".pth") else None
    if (path / "prior.json").is_file():
        return "edm"
    if (path / "vae" / "config.json").is_file() and (path / "unet" / "config.json").is_file():
        return "latent"
    scheduled = any((path / place / "scheduler_config.json").is_file() for place in (".", "scheduler"))
    return "discrete" if scheduled and _unet_config(path).is_file() else None


def _unet_config(path: Path) -> Path:
    return path / "unet" / "config.json" if (path / "unet").is_dir() else path / "config.json"


def _weights(path: Path, kind: str) -> list[Path]:
    """The files of weights: where a network is there in two formats or precisions, those that diffusers reads first."""
    if path.is_file():
        return [path]
    parts = ("unet", "vae", "text_encoder", "text_encoder_2") if kind == "latent" else ("unet", ".")
    found = []
    for folder in filter(Path.is_dir, (path / part for part in parts)):
        files = sorted(file for file in folder.iterdir() if file.suffix in _WEIGHTS)
        whole = [file for file in files if not {"fp16", "ema", "non_ema"} & set(file.name.split("."))] or files
        safe = [file for file in whole if file.suffix == ".safetensors"]
        found += safe or whole
    return found


def _file(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _parameters(path: Path) -> int:
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(_product(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    from psc_core.priors.adm_checkpoint import read_tensors

    return sum(tensor.numel() for tensor in read_tensors(path).values())


def _product(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def _edm(path: Path) -> dict[str, Any]:
    from psc_core.priors.edm_unet import read_settings

    read_settings(path)
    return {}


def _discrete(path: Path) -> dict[str, Any]:
    config = read_object(_unet_config(path))
    classes, size = config.get("num_class_embeds"), config.get("sample_size")
    attends = any("Attn" in kind for kind in (*config["down_block_types"], *config["up_block_types"]))
    condition = None if classes is None else "label"
    return {"classes": classes, "condition": condition, "native_size": size if attends else None}


def _adm(path: Path) -> dict[str, Any]:
    from psc_core.priors.adm_checkpoint import flags_of, read_tensors, shape_of

    shape = shape_of(read_tensors(path), path)
    condition = None if shape.classes is None else "label"
    return {"classes": shape.classes, "condition": condition, "native_size": flags_of(path, shape).image_size}


def _latent(path: Path) -> dict[str, Any]:
    unet, vae = (read_object(path / part / "config.json") for part in ("unet", "vae"))
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    return {"condition": "text", "native_size": int(unet["sample_size"]) * scale}


_FACTS = {"edm": _edm, "discrete": _discrete, "adm": _adm, "latent": _latent}
