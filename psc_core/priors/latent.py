"""Stable Diffusion (1.x, 2.x, XL) as a prior over latents, given a text prompt: Latent-PSC (Elata et al., section 4).

A canvas is encoded to latents, which the codec sees as an image of 4 channels and 1/8 of the side; the denoiser runs
without classifier-free guidance; pixels come from the autoencoder at the end. Every network that decides a byte or a
pixel of ``mean`` runs in exact arithmetic: UNet, text encoders, and both halves of the autoencoder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.exact.unet import Added, ExactUNet, embedding_settings
from psc_core.priors.autoencoder import LatentSpace
from psc_core.priors.base import Prior
from psc_core.priors.parts import hash_weights, load_network, read_config
from psc_core.priors.prompt import PromptEncoder
from psc_core.priors.schedule import read_schedule

_PROMPTS = 64
"""Embedded prompts that are remembered, about 0.3 MB each."""


class LatentPrior(Prior):
    """D(z, sigma) of a diffusers pipeline's ``UNet2DConditionModel`` over the latents of its ``AutoencoderKL``."""

    condition_kind = "text"
    pixels_per_call = 1 << 14
    """Latents, here: four of 64 x 64."""

    def __init__(
        self, folder: Path, *, name: str | None = None, arithmetic: str = "exact", device: str = "cpu"
    ) -> None:
        """folder: with unet/, vae/, text_encoder/, tokenizer/, scheduler/ (XL: text_encoder_2/, tokenizer_2/ too)."""
        self.name, self.arithmetic, self.device = name or folder.name, arithmetic, torch.device(device)
        self._folder = folder
        self.schedule = read_schedule(folder)
        self.sigma_min, self.sigma_max = self.schedule.sigmas[0], self.schedule.sigmas[-1]
        model = load_network(folder / "unet", "UNet2DConditionModel")
        self.config = model.config
        self.parameters = sum(p.numel() for p in model.parameters())
        side = self.config.get("sample_size")
        self.side = int(side) if isinstance(side, int) else 64
        self._net: Any = ExactUNet(model, self.device) if arithmetic == "exact" else model
        del model
        self.space = LatentSpace(folder / "vae", tile=self.side, arithmetic=arithmetic, device=self.device)
        self.prompts = self._prompt_encoders()
        self._check()
        self.channels, self.scale = self.space.channels, self.space.scale
        self.multiple = self.scale * 2 ** (len(self.config["block_out_channels"]) - 1)
        self.native_size = self.side * self.scale
        self.fingerprint = self._fingerprint()
        if not isinstance(self._net, ExactUNet):  # a GPU takes it in bfloat16
            self._net = self._net.to(self.device, torch.bfloat16 if self.device.type == "cuda" else torch.float32)
            self.shared["float"] = self._net

    @property
    def backend(self) -> str:
        """Which exact backend runs, or "float"."""
        return self._net.backend.name if self.arithmetic == "exact" else "float"

    def to_model(self, image_HWC: np.ndarray) -> Tensor:
        """uint8 (H, W, 3), both sides multiples of ``scale``, to latents (C, H / scale, W / scale)."""
        return self.space.encode(super().to_model(image_HWC))

    def to_pixels(self, x_CHW: Tensor) -> np.ndarray:
        """Latents to uint8 (H, W, 3)."""
        return super().to_pixels(self.space.decode(x_CHW))

    @torch.no_grad()
    def _denoise(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        return self.schedule.denoised(self._network, x_NCHW, sigma)

    def denoise_differentiably(self, x_NCHW: Tensor, sigma: float) -> Tensor:
        self.count(len(x_NCHW))
        return self.schedule.denoised(self._float_network, x_NCHW, sigma)

    def _network(self, u_NCHW: Tensor, timestep: float) -> Tensor:
        if self.arithmetic == "float":
            return self._float_network(u_NCHW, timestep)
        context, pooled = self._embedded()
        embedding = self._net.embed(timestep, None, self._added(pooled, u_NCHW))
        contexts = context[None, None].expand(len(u_NCHW), 1, *context.shape).contiguous()
        return self._net(u_NCHW.permute(0, 2, 3, 1).contiguous(), embedding, contexts).permute(0, 3, 1, 2)

    def _float_network(self, u_NCHW: Tensor, timestep: float) -> Tensor:
        net, (context, pooled) = self._float_net, self._embedded()
        added, more = self._added(pooled, u_NCHW), {}
        if added is not None:
            text, ids = (torch.tensor([v] * len(u_NCHW), device=self.device, dtype=net.dtype) for v in added)
            more = {"added_cond_kwargs": {"text_embeds": text, "time_ids": ids}}
        contexts = context[None].expand(len(u_NCHW), *context.shape).to(net.dtype)
        t = torch.tensor(timestep, dtype=torch.float32, device=self.device)
        return net(u_NCHW.to(net.dtype), t, contexts, **more).sample.float()

    @property
    def _float_net(self) -> Any:
        if "float" not in self.shared:
            self.shared["float"] = load_network(self._folder / "unet", "UNet2DConditionModel").to(self.device)
        return self.shared["float"]

    def _embedded(self) -> tuple[Tensor, Tensor | None]:
        """The prompt's hidden states (T, C), of all text encoders side by side, and the last one's projection."""
        known, prompt = self.shared.setdefault("prompts", {}), str(self.condition or "")
        if prompt not in known:
            while len(known) >= _PROMPTS:
                known.pop(next(iter(known)))
            parts = [encoder(prompt) for encoder in self.prompts]
            known[prompt] = torch.cat([states for states, _ in parts], dim=1), parts[-1][1]
        return known[prompt]

    def _added(self, pooled: Tensor | None, u_NCHW: Tensor) -> Added | None:
        """What SDXL's UNet is told besides: the text as one vector; original size, no crop, target size."""
        if self.config.get("addition_embed_type") != "text_time":
            return None
        assert pooled is not None
        height, width = (float(side * self.scale) for side in u_NCHW.shape[2:])
        return Added(tuple(pooled.double().tolist()), (height, width, 0.0, 0.0, height, width))

    def _prompt_encoders(self) -> list[PromptEncoder]:
        count = 2 if (self._folder / "text_encoder_2").is_dir() else 1
        return [
            PromptEncoder(
                self._folder / f"tokenizer{end}",
                self._folder / f"text_encoder{end}",
                penultimate=count == 2,
                arithmetic=self.arithmetic,
                device=self.device,
            )
            for end in ("", "_2")[:count]
        ]

    def _check(self) -> None:
        channels, latents = self.config["in_channels"], self.space.channels
        if channels != latents:
            raise InvalidPrior(
                f"{self._folder}: a UNet of {channels} channels for latents of {latents}: inpainting, depth and "
                "upscaling models are no priors over images"
            )
        width = sum(encoder.width for encoder in self.prompts)
        if width != self.config["cross_attention_dim"]:
            raise InvalidPrior(
                f"{self._folder}: text of width {width} for a UNet that attends to {self.config['cross_attention_dim']}"
            )
        guided = self.config.get("addition_embed_type") == "text_time"
        if guided != (len(self.prompts) == 2):
            raise InvalidPrior(f"{self._folder}: {len(self.prompts)} text encoders; XL models have two, others one")

    def _fingerprint(self) -> str:
        about = {"schedule": self.schedule.about, "side": self.side}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for part in [self.space.fingerprint, *(encoder.fingerprint for encoder in self.prompts)]:
            digest.update(part.encode())
        if isinstance(self._net, ExactUNet):
            digest.update(self._net.fingerprint.encode())
        else:
            hash_weights(digest, self._net)
            digest.update(embedding_settings(self.config).encode())
        return digest.hexdigest()[:32]


def is_latent(folder: Path) -> bool:
    """Whether a pipeline's folder is that of a latent text-to-image model."""
    unet = folder / "unet"
    return (unet / "config.json").is_file() and read_config(unet).get("_class_name") == "UNet2DConditionModel"
