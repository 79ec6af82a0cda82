"""Networks that judge pictures, as TorchScript files: nothing of their code, and no torchvision, is needed here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import click


def load(given: str, option: str) -> tuple[Any, str]:
    """The module of a TorchScript file, or of a URL of one, which is downloaded to torch's hub folder; and its sha256.

    Raises click.UsageError, which names what is missing.
    """
    import torch

    path = _downloaded(given, option) if urlparse(given).scheme in ("http", "https") else Path(given)
    if not path.is_file():
        raise click.UsageError(f"{option} {given}: no such file")
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError:
        raise click.UsageError(
            f"{option} {given}: not a TorchScript file. Weights alone (a state dict) need their network's code: load "
            "them there once and save the network with torch.jit.script(network).save(FILE)"
        ) from None
    with open(path, "rb") as file:
        return module, hashlib.file_digest(file, "sha256").hexdigest()


def _downloaded(url: str, option: str) -> Path:
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise click.UsageError(f"{option} {url}: cannot be downloaded ({error}); give a file") from None
    return path
