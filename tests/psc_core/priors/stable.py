"""Small Stable Diffusion folders: real classes, a real CLIP tokenizer over a small vocabulary, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.psc_core.exact import tiny

WORDS = ("dog", "cat", "cup", "red", "on", "the", "of")
WIDTH, PLACES = 48, 12
SMALL = {"sample_size": 8, "block_out_channels": (16, 32), "attention_head_dim": 2}


def write_tokenizer(folder: Path) -> int:
    """vocab.json and merges.txt as CLIP has them: 256 bytes, the same at a word's end, merges of a few words."""
    letters = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    tokens, merges = [*letters, *(letter + "</w>" for letter in letters)], []
    for word in WORDS:
        left = word[0] + ("</w>" if len(word) == 1 else "")
        for place in range(1, len(word)):
            right = word[place] + ("</w>" if place == len(word) - 1 else "")
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                tokens.append(left + right)
            left += right
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": PLACES})
    )
    return len(tokens)


def text_encoder(tokens: int, kind: Any = CLIPTextModel, act: str = "gelu", width: int = WIDTH) -> Any:
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=tokens, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=PLACES, hidden_act=act, projection_dim=16,
        bos_token_id=tokens - 2, eos_token_id=tokens - 1, pad_token_id=tokens - 1,
    )  # fmt: skip
    model = kind(config).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)  # so that another word is another text
    return model


def autoencoder() -> Any:
    torch.manual_seed(4)
    return AutoencoderKL(
        block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=8, latent_channels=4, scaling_factor=1.5,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    ).eval()  # fmt: skip


def stable_diffusion(folder: Path, *, unet: Any = None, **scheduler: Any) -> Path:
    """Stable Diffusion 1 and 2."""
    tokens = write_tokenizer(folder / "tokenizer")
    text_encoder(tokens).save_pretrained(folder / "text_encoder")
    _rest(folder, unet or tiny.conditional(**SMALL), **scheduler)
    return folder


def stable_diffusion_xl(folder: Path) -> Path:
    """Two text encoders, side by side; the second one's projection and the sizes beside the time."""
    for end, kind, act in (("", CLIPTextModel, "quick_gelu"), ("_2", CLIPTextModelWithProjection, "gelu")):
        tokens = write_tokenizer(folder / f"tokenizer{end}")
        text_encoder(tokens, kind, act, WIDTH // 2).save_pretrained(folder / f"text_encoder{end}")
    _rest(folder, tiny.xl(**SMALL))
    return folder


def _rest(folder: Path, unet: Any, **scheduler: Any) -> None:
    unet.save_pretrained(folder / "unet")
    autoencoder().save_pretrained(folder / "vae")
    levels = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    DDIMScheduler(**{**levels, **scheduler}).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
