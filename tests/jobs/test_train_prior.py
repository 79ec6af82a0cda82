"""`psc train-prior`: order, growth, resuming and the folder it writes, on a tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import UNet2DModel
from PIL import Image

from jobs.train_prior import command
from jobs.training.data import Photographs, batch, load_photographs
from jobs.training.evaluate import denoising_psnr
from jobs.training.growth import grow
from jobs.training.loss import denoise, scalings
from jobs.training.run import Settings, Trainer, run


def tiny(**changes: object) -> UNet2DModel:
    config = {
        "in_channels": 12,
        "out_channels": 12,
        "sample_size": 8,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "block_out_channels": [16, 32],
        "add_attention": False,
        "resnet_time_scale_shift": "scale_shift",
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        **changes,
    }
    return UNet2DModel.from_config(config)


@pytest.fixture
def photographs() -> Photographs:
    rng = np.random.default_rng(5)
    smooth = np.add.outer(np.arange(40), np.arange(44))[..., None] * np.ones(3)
    photos = [(smooth + rng.integers(0, 80, (40, 44, 3))).astype(np.uint8) for _ in range(10)]
    return Photographs(train=photos[:7], validation=photos[7:])


@pytest.fixture
def settings() -> Settings:
    return Settings(iterations=6, batch=4, crop=16, warmup=2, learning_rate=1e-3, validation_crop=32)


def test_a_batch_depends_on_seed_and_step_alone(photographs: Photographs) -> None:
    def make(step: int, seed: int = 3) -> np.ndarray:
        return batch(photographs.train, size=4, crop=16, seed=seed, step=step)

    later = make(9)
    np.testing.assert_array_equal(make(9), later)
    assert not np.array_equal(make(10), later)
    assert not np.array_equal(make(9, seed=4), later)
    assert later.dtype == np.float32
    assert later.shape == (4, 3, 16, 16)
    assert -1 <= later.min() < later.max() <= 1


def test_an_epoch_shows_every_photograph_once() -> None:
    flat = [np.full((16, 16, 3), value, np.uint8) for value in range(0, 70, 10)]
    seen = np.concatenate([batch(flat, size=7, crop=16, seed=0, step=s)[:, 0, 0, 0] for s in (0, 1)])
    assert sorted(seen[:7]) == sorted(seen[7:]) == sorted(np.array(range(0, 70, 10), np.float32) / 127.5 - 1)


def test_folder_and_tar_hold_the_same_photographs(tmp_path: Path) -> None:
    import tarfile

    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(150):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(folder / f"{i}.png")
    Image.fromarray(rng.integers(0, 255, (8, 24, 3), np.uint8)).save(folder / "small.png")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for file in sorted(folder.iterdir(), reverse=True):
            archive.add(file, file.name)
    a, b = (load_photographs(path, min_side=16) for path in (folder, tmp_path / "photos.tar"))
    assert len(a.train) + len(a.validation) == 150
    assert 0 < len(a.validation) < 15
    for left, right in zip(a.train + a.validation, b.train + b.validation, strict=True):
        np.testing.assert_array_equal(left, right)
    with pytest.raises(ValueError, match="give more photographs"):
        load_photographs(folder, min_side=64)


def test_growth_in_depth_preserves_the_function() -> None:
    torch.manual_seed(0)
    source = tiny()
    target = grow(source, tiny(layers_per_block=3))
    x, t = torch.randn(2, 12, 8, 8), torch.tensor([30.0, 500.0])
    with torch.no_grad():
        torch.testing.assert_close(target(x, t).sample, source(x, t).sample, rtol=0, atol=1e-5)
    assert sum(p.numel() for p in target.parameters()) > 1.5 * sum(p.numel() for p in source.parameters())


def test_growth_moves_the_middle_block_and_refits_the_time_embedding() -> None:
    torch.manual_seed(0)
    source = tiny(time_embedding_dim=96)
    x, t = torch.randn(2, 12, 8, 8), torch.tensor([30.0, 500.0])
    torch.nn.init.zeros_(source.mid_block.resnets[1].conv2.weight)  # its wider norm groups are not exact
    with torch.no_grad():
        want = source(x, t).sample
        moved = grow(source, tiny(time_embedding_dim=96, layers_per_block=2, mid_block_type=None))
        torch.testing.assert_close(moved(x, t).sample, want, rtol=0, atol=1e-5)
        narrow = grow(source, tiny(time_embedding_dim=80, layers_per_block=2, mid_block_type=None))
        assert (narrow(x, t).sample - want).std() < 0.01 * want.std()


@pytest.mark.parametrize("changes", [{"block_out_channels": [16, 48]}, {"layers_per_block": 1, "mid_block_type": None}])
def test_growth_refuses_what_it_cannot_preserve(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"growth keeps|needs one more"):
        grow(tiny(), tiny(**changes))


def test_a_resumed_run_ends_with_the_same_weights(photographs: Photographs, settings: Settings, tmp_path: Path) -> None:
    def trainer() -> Trainer:
        torch.manual_seed(0)
        return Trainer(tiny(), settings, device="cpu")

    undisturbed, interrupted, resumed = trainer(), trainer(), trainer()
    run(undisturbed, photographs, tmp_path / "a", report=lambda _: None)
    run(interrupted, photographs, tmp_path / "b", stop_after=2, report=lambda _: None)
    assert interrupted.step == 2
    run(resumed, photographs, tmp_path / "b", report=lambda _: None)
    assert resumed.step == undisturbed.step == 6
    for name in ("model", "ema"):
        want = getattr(undisturbed, name).state_dict()
        for key, value in getattr(resumed, name).state_dict().items():
            torch.testing.assert_close(value, want[key], rtol=0, atol=0)
    assert resumed.learning_rate() == pytest.approx(0)


def test_training_lowers_the_error(photographs: Photographs) -> None:
    torch.manual_seed(0)
    trainer = Trainer(
        tiny(),
        Settings(iterations=60, batch=8, crop=16, warmup=5, learning_rate=3e-3, ema=0.9, validation_crop=32),
        device="cpu",
    )
    before = trainer.validate(photographs)
    while trainer.progress < 1:
        trainer.advance(photographs)
    after = trainer.validate(photographs)
    assert after[0.5] > before[0.5] + 1
    assert after[3.0] > before[3.0] + 1


def test_denoising_is_the_posterior_mean_for_a_gaussian() -> None:
    """With F = 0 the preconditioner alone is the Wiener filter of a N(0, sigma_data²) signal."""

    class Zero(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
            return (torch.zeros_like(x),)

    y = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(denoise(Zero(), y, 1.0), y * 0.2)
    c_skip, c_out, c_in = scalings(torch.tensor([0.5]))
    assert c_skip.item() == pytest.approx(0.5)
    assert c_out.item() * c_in.item() == pytest.approx(0.5)


def test_psnr_of_a_perfect_and_an_idle_denoiser() -> None:
    """F chosen so that D(y) = y: the PSNR is that of the noise, 20 log10(2 / σ)."""

    class Idle(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
            sigma = torch.exp(4 * (t / 250 - 1.4))
            c_skip, c_out, c_in = scalings(sigma)
            return ((1 - c_skip) / c_out / c_in * x,)

    curve = denoising_psnr(lambda y, s: denoise(Idle(), y, s), torch.zeros(4, 3, 32, 32), sigmas=(0.05, 0.1))
    assert curve[0.05] == pytest.approx(32.04, abs=0.1)
    assert curve[0.1] == pytest.approx(26.02, abs=0.1)


def test_the_command_writes_a_loadable_prior_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(80):
        Image.fromarray(rng.integers(0, 255, (136, 130, 3), np.uint8)).save(folder / f"{i}.png")
    tiny().save_config(tmp_path)
    arguments = [
        str(folder),
        str(tmp_path / "out"),
        "--config",
        str(tmp_path / "config.json"),
        "--iterations",
        "2",
        "--batch",
        "2",
        "--device",
        "cpu",
        "--name",
        "mine",
        "--json",
    ]
    (tmp_path / "note.md").write_text("Noise, CC0.")
    arguments += ["--data-note", str(tmp_path / "note.md")]
    for _ in range(2):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
        facts = json.loads(result.stdout.splitlines()[-1])
        assert facts["steps"] == 2
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()
    about = json.loads((tmp_path / "out" / "prior.json").read_text())
    assert about["name"] == "mine"
    assert about["size_multiple"] == 4
    assert set(about["denoising_psnr_db_held_out"]) == {"0.05", "0.1", "0.2", "0.5", "1.0", "3.0"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# mine" in card
    assert "Noise, CC0." in card
    assert f"| {about['denoising_psnr_db_held_out']['0.5']:.2f} |" in card
    loaded = UNet2DModel.from_pretrained(tmp_path / "out")
    assert sum(p.numel() for p in loaded.parameters()) == about["parameters"]
    weights = tmp_path / "out" / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 2.2 * about["parameters"]


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path), str(tmp_path / "out"), "--iterations", "1"])
    assert result.exit_code == 2
    assert "photographs" in result.output or "--config" in result.output
