"""Compares the conversion of ADM checkpoints with openai/guided-diffusion itself.

    git clone https://github.com/openai/guided-diffusion
    python infra/adm_check.py guided-diffusion

Builds guided-diffusion's own network in small configurations, with every layer that its published models have, fills
it with random weights, saves its state dict, loads that file as a prior, and compares both networks' outputs in
float32. Status 1 if they differ by 1e-4 or more. The published models' whole networks are converted too, without
values: every tensor must find its place, and no flags be needed. ``--record FILE`` writes the shapes of the tensors and
some of guided-diffusion's outputs, which tests/psc_core/priors/test_adm.py compares with where there is no checkout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIMIT = 1e-4
TIMESTEP = 371.25
_SMALL: dict[str, Any] = {
    "image_size": 32, "num_channels": 32, "channel_mult": "1,2", "num_res_blocks": 1, "attention_resolutions": "16",
    "resblock_updown": True, "use_scale_shift_norm": True, "learn_sigma": True,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "256x256_diffusion_uncond": {"num_head_channels": 16},
    "256x256_diffusion": {"num_head_channels": 16, "class_cond": True},
    "128x128_diffusion": {"num_heads": 4, "class_cond": True, "attention_resolutions": "32,16"},
    "64x64_diffusion": {
        "num_head_channels": 16, "class_cond": True, "use_new_attention_order": True, "noise_schedule": "cosine",
        "num_res_blocks": 2,
    },
    "512x512_diffusion": {
        "num_head_channels": 16, "class_cond": True, "image_size": 512, "num_channels": 64, "channel_mult": "",
        "attention_resolutions": "32,16,8",
    },
    "convolutions that resample, plain norms": {
        "num_heads": 2, "resblock_updown": False, "use_scale_shift_norm": False, "learn_sigma": False,
        "channel_mult": "1,1,2", "attention_resolutions": "16,8",
    },
}  # fmt: skip
"""Flags of guided-diffusion's scripts, named after the published model that has these layers."""


def flags_of(case: str) -> dict[str, Any]:
    return _SMALL | CASES[case]


def random_weights(shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of these shapes from random integers, the same on every machine."""
    generator = torch.Generator().manual_seed(7)
    weights = {}
    for name, shape in shapes.items():
        whole = torch.randint(-1000, 1001, tuple(shape), generator=generator).float() / 1000
        norm = len(shape) == 1 and name.endswith("weight")
        weights[name] = whole * 0.3 + 1 if norm else whole * (3 / max(1, whole[0].numel())) ** 0.5
    return weights


def noisy_image(case: str) -> Tensor:
    side = 64 if flags_of(case)["image_size"] == 512 else 32
    generator = torch.Generator().manual_seed(8)
    return torch.randint(-1500, 1501, (2, 3, side, side), generator=generator).float() / 1000


def label_of(case: str) -> int | None:
    return 417 if flags_of(case).get("class_cond") else None


def save(folder: Path, case: str, weights: Mapping[str, Tensor]) -> Path:
    """A checkpoint, and its flags beside it."""
    path = folder / f"{case}.pt"
    torch.save(dict(weights), path)
    path.with_suffix(".json").write_text(json.dumps(flags_of(case)))
    return path


def converted(path: Path, case: str) -> tuple[Tensor, Tensor]:
    """Outputs of the network that this project makes of the checkpoint: diffusers' in float32, and the exact one's."""
    from psc_core.exact.unet import ExactUNet
    from psc_core.priors.adm_checkpoint import flags_of, read_tensors, shape_of
    from psc_core.priors.adm_layout import unet_of

    state = read_tensors(path)
    shape = shape_of(state, path)
    model = unet_of(state, shape, flags_of(path, shape), path)
    x, label = noisy_image(case), label_of(case)
    classes = None if label is None else torch.tensor([label] * len(x))
    net = ExactUNet(model)
    with torch.no_grad():
        plain = model(x, torch.tensor(TIMESTEP), class_labels=classes).sample
        exact = net(x.permute(0, 2, 3, 1).contiguous(), net.embed(TIMESTEP, label)).permute(0, 3, 1, 2)
    return plain, exact


def original(case: str) -> tuple[dict[str, Tensor], Tensor]:
    """guided-diffusion's own network: its weights, and the three channels of its output that predict the noise."""
    model = _create(flags_of(case)).eval()
    model.load_state_dict(random_weights({name: tensor.shape for name, tensor in model.state_dict().items()}))
    x, label = noisy_image(case), label_of(case)
    classes = {} if label is None else {"y": torch.tensor([label] * len(x))}
    with torch.no_grad():
        return model.state_dict(), model(x, torch.tensor([TIMESTEP] * len(x)), **classes)[:, :3]


def compare(case: str) -> tuple[float, dict[str, Any]]:
    """The largest absolute difference, and what the test without a checkout needs."""
    weights, want = original(case)
    with tempfile.TemporaryDirectory() as folder:
        plain, exact = converted(save(Path(folder), case, weights), case)
    difference = float((plain - want).abs().max())
    relative = float((exact - want).norm() / want.norm())
    count = sum(tensor.numel() for tensor in weights.values())
    peak = float(want.abs().max())
    print(
        f"{case}: {count} parameters, outputs within {peak:.2f}, max abs difference {difference:.1e}; "
        f"exact arithmetic: relative RMS {relative:.3f}",
        flush=True,
    )
    values = [round(value, 6) for value in want.flatten()[::61].tolist()]
    return difference, {"shapes": {name: list(tensor.shape) for name, tensor in weights.items()}, "values": values}


def published() -> None:
    """guided-diffusion's networks as its README builds them, on torch's meta device, named as their files."""
    from psc_core.priors.adm_checkpoint import flags_of, shape_of
    from psc_core.priors.adm_layout import unet_of

    common = {"attention_resolutions": "32,16,8", "learn_sigma": True, "resblock_updown": True, "num_channels": 256,
              "num_res_blocks": 2, "use_scale_shift_norm": True, "class_cond": True}  # fmt: skip
    heads = {"num_head_channels": 64}
    models = {
        64: heads | {"num_channels": 192, "num_res_blocks": 3, "use_new_attention_order": True},
        128: {"num_heads": 4},
        256: heads,
        512: heads,
    }
    for size, own in models.items():
        path = Path(f"{size}x{size}_diffusion.pt")
        with torch.device("meta"):
            state = _create(common | own | {"image_size": size}).state_dict()
        shape = shape_of(state, path)
        model = unet_of(state, shape, flags_of(path, shape), path)
        dropped = 3 * state["out.2.weight"][0].numel() + 3
        count, kept = (sum(p.numel() for p in tensors) for tensors in (state.values(), model.parameters()))
        if count != kept + dropped:
            raise SystemExit(f"{path}: {count} parameters became {kept}")
        print(f"{path}: all {count / 1e6:.1f} M parameters have their place", flush=True)


def _create(given: Mapping[str, Any]) -> Any:
    from guided_diffusion.script_util import create_model, model_and_diffusion_defaults

    names = create_model.__code__.co_varnames[: create_model.__code__.co_argcount]
    return create_model(**{k: v for k, v in (model_and_diffusion_defaults() | dict(given)).items() if k in names})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("checkout", type=Path, help="a checkout of openai/guided-diffusion")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what the test holds")
    arguments = parser.parse_args()
    checkout = arguments.checkout
    if not (checkout / "guided_diffusion" / "script_util.py").is_file():
        parser.error(f"{checkout} is no checkout of guided-diffusion: guided_diffusion/script_util.py is not in it")
    sys.path[:0] = [str(checkout), str(Path(__file__).parent.parent)]
    published()
    found = {case: compare(case) for case in CASES}
    if arguments.record:
        short = {case: entry for case, (_, entry) in found.items() if len(entry["shapes"]) < 250}
        lines = ",\n".join(f" {json.dumps(case)}: {json.dumps(entry)}" for case, entry in short.items())
        arguments.record.write_text(f'{{"commit": {json.dumps(_commit(checkout))},\n "cases": {{\n{lines}\n}}}}\n')
    return int(max(difference for difference, _ in found.values()) >= LIMIT)


def _commit(checkout: Path) -> str:
    asked = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
