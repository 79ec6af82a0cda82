"""The training loop: a step depends on (settings, step) alone, so that resuming changes nothing."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import nn

from jobs.training.data import Photographs, batch, centre_crops
from jobs.training.evaluate import denoising_psnr
from jobs.training.growth import Network
from jobs.training.loss import denoise, loss_of

STEP_SEED = 1 << 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run. The learning rate falls to zero over `iterations`, or else over `seconds` of training."""

    iterations: int = 0
    seconds: float = 0.0
    batch: int = 32
    crop: int = 64
    learning_rate: float = 5e-4
    warmup: int = 200
    ema: float = 0.999
    seed: int = 0
    validation_crop: int = 128
    validation_count: int = 48
    validate_every: float = 600.0
    checkpoint_every: float = 240.0


class Trainer:
    """A network, its EMA, the optimizer and the history; saved to and restored from one file."""

    def __init__(self, model: Network, settings: Settings, *, device: str, compiled: bool = False) -> None:
        if (settings.iterations > 0) == (settings.seconds > 0):
            raise ValueError("give either iterations or seconds")
        self.settings, self.device = settings, torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        self.ema = UNet2DModel.from_config(model.config).to(self.device, memory_format=torch.channels_last)
        self.ema.load_state_dict(model.state_dict())
        self.ema.requires_grad_(False).eval()
        self.forward: Callable[..., Any] = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.step, self.elapsed = 0, 0.0
        self.history: list[dict[str, Any]] = []

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        if self.settings.iterations:
            return min(1.0, self.step / self.settings.iterations)
        return min(1.0, self.elapsed / self.settings.seconds)

    def learning_rate(self) -> float:
        """Linear warm-up, then a half cosine down to zero."""
        warm = min(1.0, (self.step + 1) / max(1, self.settings.warmup))
        return self.settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.progress))

    def advance(self, photographs: Photographs) -> float:
        """One optimizer step; returns the loss."""
        s = self.settings
        x = batch(photographs.train, size=s.batch, crop=s.crop, seed=s.seed, step=self.step)
        generator = torch.Generator().manual_seed(s.seed * STEP_SEED + self.step)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = loss_of(self.forward, torch.from_numpy(x).to(self.device), generator)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._average()
        return loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        averaged, current = list(self.ema.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def validate(self, photographs: Photographs) -> dict[float, float]:
        """The EMA's denoising PSNR (dB) on held-out photographs, written to the history."""
        s = self.settings
        x = centre_crops(photographs.validation, crop=s.validation_crop, count=s.validation_count)
        curve = denoising_psnr(lambda y, sigma: denoise(self.ema, y.to(self.device), sigma), torch.from_numpy(x))
        self.history.append(
            {
                "step": self.step,
                "seconds": round(self.elapsed),
                "progress": self.progress,
                "psnr": {str(k): round(v, 3) for k, v in curve.items()},
            }
        )
        return curve

    def save(self, path: Path) -> None:
        """Write the checkpoint in place of the last one, never half of it."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "elapsed": self.elapsed,
            "history": self.history,
            "settings": asdict(self.settings),
            "config": dict(self.model.config),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same architecture."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed, self.history = state["step"], state["elapsed"], state["history"]


def run(
    trainer: Trainer,
    photographs: Photographs,
    folder: Path,
    *,
    stop_after: int | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Train to the end (or for `stop_after` steps), with checkpoints, progress and a validation curve."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint)
    settings, began, done, running = trainer.settings, time.monotonic(), 0, 0.0
    saved = validated = logged = began
    if trainer.step == 0:
        report(f"before: {trainer.validate(photographs)}")
    began = time.monotonic()
    while trainer.progress < 1 and (stop_after is None or done < stop_after):
        rate, loss = trainer.learning_rate(), trainer.advance(photographs)
        running = loss if done == 0 else 0.99 * running + 0.01 * loss
        done += 1
        now = time.monotonic()
        trainer.elapsed, began = trainer.elapsed + now - began, now
        if now - logged > 30:
            report(
                json.dumps(
                    {
                        "step": trainer.step,
                        "seconds": round(trainer.elapsed),
                        "lr": rate,
                        "progress": round(trainer.progress, 4),
                        "loss": round(running, 5),
                    }
                )
            )
            logged = now
        if now - validated > settings.validate_every:
            report(f"step {trainer.step}: {trainer.validate(photographs)}")
            validated = now
        if now - saved > settings.checkpoint_every:
            trainer.save(checkpoint)
            saved = now
    trainer.save(checkpoint)
