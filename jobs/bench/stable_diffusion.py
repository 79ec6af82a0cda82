"""The networks of Stable Diffusion 2 base, at full size with random weights, on which their cost does not depend."""

from __future__ import annotations

from typing import Any

SD2: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "autoencoder": {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
    "text": {
        "vocab_size": 49408,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
    },
}
"""The settings of stabilityai/stable-diffusion-2-base."""


def random_network(part: str, settings: dict[str, Any]) -> Any:
    """A float32 network of that part; matrices of variance 1 / inputs, norms near 1, from one block of numbers."""
    import torch

    with torch.device("meta"):  # the library's own drawing takes a minute
        model = _network(part, settings)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    numbers = torch.empty(1 << 20).uniform_(-1.0, 1.0, generator=torch.Generator().manual_seed(0))
    for name, weight in model.named_parameters():
        repeated = numbers.expand(-(-weight.numel() // len(numbers)), -1).flatten()[: weight.numel()]
        spread = (3.0 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.1
        torch.mul(repeated.view(weight.shape), spread, out=weight.data)
        if weight.ndim == 1 and name.endswith("weight"):
            weight.data += 1.0
    for name, buffer in model.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return model


def _network(part: str, settings: dict[str, Any]) -> Any:
    if part == "text":
        from transformers import CLIPTextConfig, CLIPTextModel

        return CLIPTextModel(CLIPTextConfig(**settings))
    if part == "unet":
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel(**settings)
    from diffusers import AutoencoderKL

    return AutoencoderKL(**settings)
