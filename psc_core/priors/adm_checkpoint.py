"""A checkpoint of openai/guided-diffusion: what its tensors tell of the network, and what its flags must add.

Shapes tell widths, levels, residual blocks, attention, classes and learned variances. Head count, head order, noise
schedule and image size leave no trace in them: they are known for the published ImageNet and LSUN models; another model
needs a JSON file of the same stem beside it, with the flags of guided-diffusion's own scripts by their own names.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.priors.settings import read_object


@dataclass(frozen=True)
class Shape:
    """What the tensors tell. ``widths`` and ``attends``: of every level, from full resolution down."""

    time_width: int
    widths: tuple[int, ...]
    blocks: int
    attends: tuple[bool, ...]
    classes: int | None
    out_channels: int
    scale_shift: bool
    resnet_resampling: bool


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the tensors do not tell; names and defaults of guided-diffusion's scripts."""

    image_size: int
    num_head_channels: int = -1
    num_heads: int = 4
    use_new_attention_order: bool = False
    noise_schedule: str = "linear"
    diffusion_steps: int = 1000
    predict_xstart: bool = False
    null_class: int = -1
    """No flag of guided-diffusion's: the class that stands for an unknown one, if training left labels out."""

    def heads(self, channels: int) -> int:
        """Attention heads of a layer so wide."""
        return self.num_heads if self.num_head_channels == -1 else channels // self.num_head_channels

    def scheduler(self) -> dict[str, Any]:
        """The schedule as diffusers' ``DDPMScheduler`` is configured; images are clipped as guided-diffusion does."""
        scale = 1000 / self.diffusion_steps
        kinds = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
        if self.noise_schedule not in kinds:
            raise InvalidPrior(f"noise_schedule={self.noise_schedule!r}: expected linear or cosine")
        return {
            "num_train_timesteps": self.diffusion_steps,
            "beta_schedule": kinds[self.noise_schedule],
            "beta_start": scale * 1e-4,
            "beta_end": scale * 0.02,
            "prediction_type": "sample" if self.predict_xstart else "epsilon",
            "clip_sample": True,
        }


_PUBLISHED = {
    (192, (192, 384, 576, 768), 3): Flags(
        image_size=64, num_head_channels=64, use_new_attention_order=True, noise_schedule="cosine"
    ),
    (256, (256, 256, 512, 768, 1024), 2): Flags(image_size=128, num_heads=4),
    (256, (256, 256, 512, 512, 1024, 1024), 2): Flags(image_size=256, num_head_channels=64),
    (256, (128, 256, 256, 512, 512, 1024, 1024), 2): Flags(image_size=512, num_head_channels=64),
}
"""Flags of the models in guided-diffusion's README, by time width, widths and blocks a level."""
_IN_TENSORS = {
    "attention_resolutions", "channel_mult", "class_cond", "dropout", "learn_sigma", "num_channels", "num_res_blocks",
    "resblock_updown", "use_checkpoint", "use_fp16", "use_scale_shift_norm",
}  # fmt: skip
"""Flags that the file may hold and that the tensors tell, or that change nothing here."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, memory-mapped where its format allows; unpickles nothing but tensors."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidPrior(f"{path} cannot be read as a checkpoint of tensors alone: {reason}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidPrior(f"{path} holds no state dict: expected guided-diffusion's, names to tensors")
    return dict(state)


def shape_of(state: Mapping[str, Tensor], path: Path) -> Shape:
    """What the tensors tell. Raises :class:`InvalidPrior` for another network's."""
    needed = ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.1.qkv.weight", "out.2.weight")
    if missing := [key for key in needed if key not in state]:
        raise InvalidPrior(f"{path} is no guided-diffusion UNet: it lacks {', '.join(missing)}")
    channels = int(state["input_blocks.0.0.weight"].shape[1])
    if channels != 3:
        raise InvalidPrior(f"{path}: a network of {channels} input channels (an upsampler?); expected 3, RGB")
    down, up = (_count(state, f"{side}_blocks") for side in ("input", "output"))
    resamplers = [n for n in range(up) if _second(state, n) is not None]
    levels = len(resamplers) + 1
    blocks = up // levels - 1
    if up != levels * (blocks + 1) or down != levels * (blocks + 1):
        raise InvalidPrior(f"{path}: {down} input and {up} output blocks are not guided-diffusion's layout")
    firsts = [1 + level * (blocks + 1) for level in range(levels)]
    widths = tuple(int(state[f"input_blocks.{n}.0.out_layers.3.weight"].shape[0]) for n in firsts)
    labels = state.get("label_emb.weight")
    time = state["input_blocks.1.0.emb_layers.1.weight"]
    return Shape(
        time_width=int(state["time_embed.0.weight"].shape[1]),
        widths=widths,
        blocks=blocks,
        attends=tuple(f"input_blocks.{n}.1.qkv.weight" in state for n in firsts),
        classes=None if labels is None else int(labels.shape[0]),
        out_channels=int(state["out.2.weight"].shape[0]),
        scale_shift=int(time.shape[0]) == 2 * widths[0],
        resnet_resampling=not resamplers or _second(state, resamplers[0]) == "in_layers.0.weight",
    )


def flags_of(path: Path, shape: Shape) -> Flags:
    """The flags beside a checkpoint, or those of the published model that has its shape."""
    beside = path.with_suffix(".json")
    if beside.is_file():
        return _read_flags(beside)
    found = _PUBLISHED.get((shape.time_width, shape.widths, shape.blocks))
    if found is None:
        raise InvalidPrior(
            f"{path} has the shape of none of guided-diffusion's published models, and its tensors do not tell heads, "
            f'schedule and size: write them to {beside.name} beside it, for instance {{"image_size": 256, '
            '"num_head_channels": 64, "noise_schedule": "linear"}'
        )
    return found


def about(shape: Shape, flags: Flags) -> dict[str, Any]:
    """All that decides the network, beside its weights: for a fingerprint."""
    return {"kind": "guided-diffusion", "shape": asdict(shape), "flags": asdict(flags)}


def _read_flags(path: Path) -> Flags:
    given = {name: value for name, value in read_object(path).items() if name not in _IN_TENSORS}
    known = asdict(Flags(image_size=0))
    if unknown := sorted(set(given) - set(known)):
        raise InvalidPrior(f"{path}: unknown flags {', '.join(unknown)}; known: {', '.join(known)}")
    for name, value in given.items():
        if type(value) is not type(known[name]):
            raise InvalidPrior(f"{path}: {name}={value!r}; expected something like {known[name]!r}")
    if given.get("image_size", 0) < 1:
        raise InvalidPrior(f"{path}: image_size={given.get('image_size')!r}; expected the side in pixels")
    if given.get("diffusion_steps", 1) < 1:
        raise InvalidPrior(f"{path}: diffusion_steps={given['diffusion_steps']}; expected at least 1")
    return Flags(**given)


def _count(state: Mapping[str, Tensor], name: str) -> int:
    return 1 + max((int(key.split(".")[1]) for key in state if key.startswith(f"{name}.")), default=-1)


def _second(state: Mapping[str, Tensor], block: int) -> str | None:
    """How an output block ends: with an upsampling residual block, an upsampling convolution, or with neither."""
    for place in (1, 2):
        for name in ("in_layers.0.weight", "conv.weight"):
            if f"output_blocks.{block}.{place}.{name}" in state:
                return name
    return None
