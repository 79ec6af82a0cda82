"""The model card beside a prior: what it is, what it was trained on, how, how well, and where it ends."""

from __future__ import annotations

from typing import Any

LIMITS = """\
- Trained on 64x64 windows: structure wider than that is known only through the measurements.
- Photographs. Text, line art, screenshots and medical images need a higher rate; all of them decode.
- A small network: what it adds to the measurements at low rates is smooth rather than detailed.
- Samples are generated, not evidence: detail finer than the rate can carry is plausible, not what was there.
"""


def model_card(about: dict[str, Any], *, data_note: str = "") -> str:
    """README.md of a prior folder, drawn from its prior.json. data_note: the data's origin and licences."""
    training = about["training"]
    history = training.get("history", [])
    lines = [
        f"# {about['name']}",
        "",
        f"A denoiser of photographs: diffusers `UNet2DModel`, {about['parameters']:,} parameters,",
        f"{about['gflop_per_64x64']} GFLOP a 64x64 sample, no attention, any size that is a multiple of "
        f"{about['size_multiple']}.",
        f"Float16 EMA weights. Parametrization: `{about['parametrization']}`.",
        "",
        "## Data and licences",
        "",
        data_note.strip() or f"`{training['data']}`, {training['photographs']} photographs. State their licences here.",
        "",
        "## Recipe",
        "",
        *[f"- {key.replace('_', ' ')}: {value}" for key, value in training.items() if key != "history"],
        "",
        "## Denoising PSNR (dB)",
        "",
        *_table(_curves(about), first="images"),
        "",
    ]
    if history:
        steps = {f"step {point['step']}": point["psnr"] for point in history}
        lines += ["## Validation during training (dB)", "", *_table(steps, first="held out"), ""]
    return "\n".join([*lines, "## Limits", "", LIMITS])


def _curves(about: dict[str, Any]) -> dict[str, dict[str, float]]:
    prefix = "denoising_psnr_db_"
    return {key.removeprefix(prefix): value for key, value in about.items() if key.startswith(prefix)}


def _table(rows: dict[str, dict[str, float]], *, first: str) -> list[str]:
    columns = list(next(iter(rows.values())))
    head = [
        f"| {first} | " + " | ".join(f"σ = {c}" for c in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    return head + [f"| {name} | " + " | ".join(f"{row[c]:.2f}" for c in columns) + " |" for name, row in rows.items()]
