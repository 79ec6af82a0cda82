"""Between pixels and latents: an ``AutoencoderKL``, exact or float, in tiles where the image is large."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.exact.ambient import undisturbed
from psc_core.exact.vae import ExactAutoencoder
from psc_core.priors.parts import hash_weights, load_network


class LatentSpace:
    """Pixels (3, H, W) in [-1, 1] to latents (C, H / scale, W / scale) of about unit variance, and back; float32.

    channels: of a latent. scale: pixels a side to one latent. fingerprint: hex sha256 over what decides both ways.
    """

    def __init__(self, folder: Path, *, tile: int, arithmetic: str, device: torch.device) -> None:
        """tile: side in latents of what the autoencoder is given at once when it decodes."""
        model = load_network(folder, "AutoencoderKL")
        config = model.config
        if config.in_channels != 3 or config.out_channels != 3:
            raise InvalidPrior(f"{folder}: an autoencoder of {config.in_channels} channels; expected one of RGB images")
        self.channels, self.scale = int(config.latent_channels), 2 ** (len(config.block_out_channels) - 1)
        self.tile, self.overlap = tile, max(1, tile // 4)
        self.factor, self.shift = float(config.scaling_factor), float(config.get("shift_factor") or 0.0)
        self.net: Any = ExactAutoencoder(model, device) if arithmetic == "exact" else model.to(device)
        digest = hashlib.sha256(repr((self.factor, self.shift, self.tile, self.overlap)).encode())
        if isinstance(self.net, ExactAutoencoder):
            digest.update(self.net.fingerprint.encode())
        else:
            hash_weights(digest, self.net)
        self.fingerprint = digest.hexdigest()

    @torch.no_grad()
    def encode(self, pixels_CHW: Tensor) -> Tensor:
        """The mean of the latent's distribution."""
        with undisturbed(pixels_CHW.device):
            if isinstance(self.net, ExactAutoencoder):
                mean = self.net.encode(_to_last(pixels_CHW)).permute(0, 3, 1, 2)[0]
            else:
                mean = self.net.encode(pixels_CHW[None]).latent_dist.mode()[0]
        return ((mean - self.shift) * self.factor).contiguous()

    def decode(self, latent_CHW: Tensor) -> Tensor:
        """Pixels; of a large latent tile by tile, each fading into its neighbours."""
        rows, columns = (self._starts(side) for side in latent_CHW.shape[1:])
        if len(rows) == len(columns) == 1:
            return self._decode(latent_CHW)
        _, height, width = latent_CHW.shape
        total = torch.zeros(3, height * self.scale, width * self.scale, dtype=torch.float64, device=latent_CHW.device)
        weight = torch.zeros_like(total[0])
        for top in rows:
            for left in columns:
                pixels = self._decode(latent_CHW[:, top : top + self.tile, left : left + self.tile]).double()
                down, across = (self._ramp(side, latent_CHW.device) for side in pixels.shape[1:])
                share = down[:, None] * across[None, :]
                place = (slice(top * self.scale, None), slice(left * self.scale, None))
                view = (slice(0, share.shape[0]), slice(0, share.shape[1]))
                total[:, place[0], place[1]][:, view[0], view[1]] += pixels * share
                weight[place][view] += share
        return (total / weight).float()

    @torch.no_grad()
    def _decode(self, latent_CHW: Tensor) -> Tensor:
        z = latent_CHW / torch.full_like(latent_CHW, self.factor) + self.shift
        with undisturbed(z.device):
            if isinstance(self.net, ExactAutoencoder):
                return self.net.decode(_to_last(z)).permute(0, 3, 1, 2)[0]
            return self.net.decode(z[None]).sample[0]

    def _starts(self, side: int) -> list[int]:
        """Where tiles begin: the fewest that overlap by at least ``overlap``, nearly evenly."""
        if side <= self.tile:
            return [0]
        count = -(-(side - self.overlap) // (self.tile - self.overlap))
        return [i * (side - self.tile) // (count - 1) for i in range(count)]

    def _ramp(self, size: int, device: torch.device) -> Tensor:
        """Weights 1, 2, ... up to the overlap in pixels and down again, float64."""
        most = self.overlap * self.scale
        return torch.tensor([min(i + 1, size - i, most) for i in range(size)], dtype=torch.float64, device=device)


def _to_last(x_CHW: Tensor) -> Tensor:
    return x_CHW[None].permute(0, 2, 3, 1).contiguous()
