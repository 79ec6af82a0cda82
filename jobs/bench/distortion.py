"""What a decoded picture is judged by: rate, PSNR, SSIM, MS-SSIM, and LPIPS where its weights are already there."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jobs.bench.curves import Point
from jobs.bench.features import Features
from jobs.bench.scripted import load
from psc_core import metrics

Learned = Callable[[np.ndarray, np.ndarray], float]
_BACKBONE = "alexnet-owt-7be5be79.pth"
_NO_FEATURES = (
    "absent: no feature network was given (--inception FILE, TorchScript: uint8 crops (N, 3, H, W) to features)"
)
LPIPS_SIDE = 64
"""AlexNet's last pooling has nothing left of a smaller image."""


class Judge:
    """Compares pictures. ``learned`` says of every learned metric what it is, or why it is absent."""

    def __init__(
        self, *, with_learned: bool = True, lpips: str | None = None, features: Features | None = None
    ) -> None:
        """lpips: a TorchScript file of it; features: for FID and KID."""
        self._lpips: Learned | None
        if lpips is not None:
            self._lpips, said = _scripted_lpips(lpips)
        else:
            self._lpips, said = _lpips() if with_learned else (None, "not asked for")
        self.learned = {"lpips": said}
        self.features = features
        self.learned["fid and kid"] = _NO_FEATURES if features is None else features.about

    def rate_and_distortion(self, nbytes: int, image: np.ndarray, decoded: np.ndarray) -> Point:
        """bytes, bpp, psnr (dB), ssim, ms_ssim, lpips of images (H, W, C); None where a metric is not defined."""
        found = metrics.distortion(image, decoded)
        point: Point = {"bytes": nbytes, "bpp": metrics.bpp(nbytes, *image.shape[:2]), **found._asdict()}
        point["psnr"] = found.psnr if math.isfinite(found.psnr) else None
        if self._lpips is not None:
            large = min(image.shape[:2]) >= LPIPS_SIDE
            point["lpips"] = self._lpips(image, decoded) if large else None
        if self.features is not None:
            point["features"] = self.features.keep(image, decoded)
        return point

    def would_add(self, point: Point) -> bool:
        """Whether a point that was measured before lacks what is measured now."""
        if self._lpips is not None and "lpips" not in point:
            return True
        if self.features is None:
            return False
        kept = point.get("features", "")
        return kept is not None and not self.features.path(kept).is_file()


def _scripted_lpips(given: str) -> tuple[Learned, str]:
    """A module (a, b) -> distance of pictures in [-1, 1]; or NVIDIA's VGG16, whose ``return_lpips`` gives vectors of
    pictures in 0..255 whose squared distance it is.
    """
    import torch

    network, sha256 = load(given, "--lpips")
    vectors = "return_lpips" in str(network.forward.schema)

    def tensor(image: np.ndarray) -> torch.Tensor:
        colour = np.broadcast_to(image, (*image.shape[:2], 3)).copy()
        return torch.from_numpy(colour).permute(2, 0, 1)[None].float()

    def distance(image: np.ndarray, decoded: np.ndarray) -> float:
        a, b = tensor(image), tensor(decoded)
        with torch.no_grad():
            if not vectors:
                return float(network(a / 127.5 - 1.0, b / 127.5 - 1.0))
            one, two = (network(x, resize_images=False, return_lpips=True) for x in (a, b))
            return float((one - two).square().sum())

    return distance, f"{Path(given).name} sha256 {sha256[:16]}"


def _lpips() -> tuple[Learned | None, str]:
    """LPIPS (Zhang et al. 2018, AlexNet). Never downloads, and nothing takes its place."""
    if find_spec("lpips") is None:
        return None, "absent: the package lpips is not installed"
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE
    if not weights.is_file():
        return None, f"absent: the backbone's weights {_BACKBONE} are not in torch's hub folder"
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False).eval()

    def tensor(image: np.ndarray) -> torch.Tensor:
        colour = np.broadcast_to(image, (*image.shape[:2], 3)).copy()
        return torch.from_numpy(colour).permute(2, 0, 1)[None].float() / 127.5 - 1.0

    def distance(image: np.ndarray, decoded: np.ndarray) -> float:
        with torch.no_grad():
            return float(network(tensor(image), tensor(decoded)))

    return distance, "AlexNet"
