"""FID and KID of random crops, and LPIPS, by networks given as TorchScript files; never by anything in their place."""

from __future__ import annotations

import json
import re

import click
import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from jobs.bench import features
from jobs.bench.distortion import Judge
from jobs.bench.features import Features, frechet_distance, kernel_distance
from jobs.bench.photographs import digest
from tests.jobs.test_bench_rd import bench
from tests.psc_core.photographs import photograph


class Means(torch.nn.Module):
    """Six features of a crop: means and peaks of its channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.float() / 255
        return torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], dim=1)


class Nvidias(torch.nn.Module):
    """The interface of NVIDIA's copies: features, or vectors whose distance is LPIPS, by a word."""

    def forward(
        self, x: torch.Tensor, return_features: bool = False, resize_images: bool = True, return_lpips: bool = False
    ) -> torch.Tensor:
        if return_lpips:
            assert not resize_images
            return x.mean(dim=(2, 3)) / 255
        return x.float().mean(dim=(2, 3)) if return_features else torch.zeros(len(x), 1008)


class Distance(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert bool((a.abs() <= 1).all())
        return (a - b).abs().mean().view(1, 1, 1, 1)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for module in (Means(), Nvidias(), Distance()):
        torch.jit.script(module).save(str(folder / f"{type(module).__name__}.pt"))
    return folder


def samples(n, d, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * scale @ rng.normal(size=(d, d)) + shift


def test_frechet_distance_of_known_gaussians():
    """Closed form in one dimension: (m1 - m2)^2 + (s1 - s2)^2."""
    a = np.array([[-1.0], [1.0]]) * np.sqrt(0.5)
    assert frechet_distance(a * 2, a * 3 + 5) == pytest.approx(25 + 1)
    x = samples(200, 4, 1)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_is_torchmetrics():
    images = [
        torch.from_numpy(np.random.default_rng(s).integers(0, 200 + 20 * s, (40, 3, 16, 16), np.uint8)) for s in (0, 1)
    ]
    metric = FrechetInceptionDistance(feature=Means(), input_img_size=(3, 16, 16))
    metric.set_dtype(torch.float64)
    metric.update(images[0], real=True)
    metric.update(images[1], real=False)
    a, b = (Means()(i).double().numpy() for i in images)
    assert frechet_distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-3)


def test_kernel_distance_is_torchmetrics_and_unbiased():
    a, b = samples(60, 5, 1), samples(60, 5, 2, shift=0.5)
    want = float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b), 3, None, 1.0))
    assert kernel_distance(a, b, subsets=1) == pytest.approx(want)
    same = kernel_distance(samples(200, 3, 3)[:100], samples(200, 3, 3)[100:], subsets=20, size=50)
    assert abs(same) < 0.1 * kernel_distance(samples(100, 3, 3), samples(100, 3, 3) + 2, subsets=20, size=50)


def test_crops_are_where_the_original_says(scripts, tmp_path):
    kept = Features(str(scripts / "Means.pt"), tmp_path, crops=7, side=16)
    image = photograph("coffee", 40, 50)
    name = kept.keep(image, image)
    found = kept.read([name])
    assert found.shape == (7, 6)
    rng = np.random.default_rng(int(digest(image), 16))
    tops, lefts = (rng.integers(0, side - 15, 7) for side in image.shape[:2])
    want = [image[t : t + 16, x : x + 16].mean(axis=(0, 1)) / 255 for t, x in zip(tops, lefts, strict=True)]
    np.testing.assert_allclose(found[:, :3], want, atol=1e-5)
    darker = kept.read([kept.keep(image, image // 2)])
    np.testing.assert_allclose(darker[:, 3:], [(p * 255 // 2) / 255 for p in found[:, 3:]], atol=0.01)
    assert kept.keep(image[:15], image[:15]) is None
    before = kept.path(name).stat().st_mtime_ns
    assert kept.keep(image, image) == name
    assert kept.path(name).stat().st_mtime_ns == before


def test_nvidias_interfaces(scripts, tmp_path):
    image = photograph("coffee", 64, 64)
    found = Features(str(scripts / "Nvidias.pt"), tmp_path, crops=2, side=64)
    np.testing.assert_allclose(found.read([found.keep(image, image)])[0], image.mean(axis=(0, 1)), rtol=1e-5)
    judge = Judge(lpips=str(scripts / "Nvidias.pt"))
    white, black = (np.full((64, 64, 3), v, np.uint8) for v in (255, 0))
    assert judge.rate_and_distortion(1, black, white)["lpips"] == pytest.approx(3)
    plain = Judge(lpips=str(scripts / "Distance.pt"))
    assert plain.rate_and_distortion(1, black[:, :, :1], white[:, :, :1])["lpips"] == pytest.approx(2)
    assert "Distance.pt sha256" in plain.learned["lpips"]


def test_what_is_no_network_is_refused(scripts, tmp_path, monkeypatch):
    torch.save(Means().state_dict(), tmp_path / "weights.pth")
    for given, words in [
        (tmp_path / "none.pt", "no such file"),
        (tmp_path / "weights.pth", "not a TorchScript file.*state dict"),
    ]:
        with pytest.raises(click.UsageError, match=words):
            Judge(lpips=str(given))
        with pytest.raises(click.UsageError, match=words):
            Features(str(given), tmp_path)
    image = photograph("coffee", 64, 64)
    with pytest.raises(click.UsageError, match="no uint8 crops"):
        Features(str(scripts / "Distance.pt"), tmp_path, side=32).keep(image, image)

    def fails(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    with pytest.raises(click.UsageError, match=r"cannot be downloaded \(no network\); give a file"):
        Features("https://example.org/inception.pt", tmp_path)


def test_a_run_with_features_resumes_and_draws_what_others_published(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SIDE", 24)
    (tmp_path / "src").mkdir()
    for name in ("chelsea", "coffee"):
        Image.fromarray(photograph(name, 32, 32)).save(tmp_path / "src" / f"{name}.png")
    cheap = ["--prior", "gaussian", "--codecs", "jpeg"]
    for field in ("tiers=2", "canvas=32", "samples=2", "first_steps=1", "restore_samples=2", "restore_steps=1"):
        cheap += ["--set", f"archive.{field}"]
    cited = {"ELIC": {"images": "Kodak, whole", "citation": "He et al. 2022", "points": [{"bpp": 0.2, "psnr": 30.0}]}}
    (tmp_path / "cited.json").write_text(json.dumps({"curves": cited}))
    out = tmp_path / "rd"
    code, _, said = bench("--images", tmp_path / "src", "--codecs", "jpeg", "--profile", "none", "--out", out)
    assert code == 0
    assert "fid and kid is absent: no feature network" in said
    more = ["--inception", scripts / "Means.pt", "--lpips", scripts / "Distance.pt"]
    more += ["--published", tmp_path / "cited.json"]
    code, table, said = bench("--images", tmp_path / "src", *cheap, "--out", out, *more)
    assert code == 0
    assert "measurements read from" not in said, "earlier ones have no features"
    record = json.loads((tmp_path / "rd.json").read_text())
    assert "50 crops of 24x24" in record["learned"]["fid and kid"]
    assert record["published"] == cited
    for curve in record["mean"].values():
        distances = [point["fid"] for point in curve]
        assert min(distances) > 0
        assert distances[-1] < distances[0], "more bits, nearer"
        assert all({"kid", "lpips"} <= set(point) for point in curve)
    assert {"fid", "kid", "parameters", "nfe encode", "s encode"} <= set(re.split(r"\s{2,}", table.splitlines()[0]))
    code, _, said = bench("--images", tmp_path / "src", *cheap, "--out", out, *more)
    assert "4 of 4 measurements read from" in said
    assert json.loads((tmp_path / "rd.json").read_text())["mean"] == record["mean"]


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        ({"images": "Kodak", "points": [{"bpp": 1, "psnr": 30}]}, "lacks citation"),
        ({"images": "Kodak", "citation": "x", "points": [{"psnr": 30}]}, "expected bpp"),
        ({"images": "Kodak", "citation": "x", "points": [{"bpp": 1, "vmaf": 30}]}, "expected bpp"),
        ([1], "not a file of published points"),
    ],
)
def test_published_points_must_be_cited(tmp_path, curve, words):
    from jobs.bench import published

    (tmp_path / "cited.json").write_text(json.dumps({"curves": {"x": curve}}))
    with pytest.raises(click.UsageError, match=words):
        published.read(str(tmp_path / "cited.json"))


def test_the_published_points_that_are_kept_here_are_cited():
    from pathlib import Path

    from jobs.bench import published

    root = Path(__file__).parents[3]
    for curve in published.read(str(root / "results" / "published.json")).values():
        assert "arXiv" in curve["citation"]
