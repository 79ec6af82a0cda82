"""`psc bench rd` whole: small runs beside real codecs, resumed, compared, and refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs import bench_rd as module
from jobs.bench import our_codecs
from jobs.bench_rd import command
from tests.psc_core.photographs import photograph

CHEAP = ["--prior", "gaussian", "--codecs", "jpeg,webp", "--set", "archive.tiers=3", "--set", "archive.canvas=64"]
PROMISED = {
    "records": None,
    "--images": None,
    "--profile": (),
    "--prior": (),
    "--set": (),
    "--codecs": "jpeg,jpeg2000,webp,avif,heic",
    "--size": None,
    "--crop": None,
    "--every": 1,
    "--limit": None,
    "--captions": None,
    "--labels": None,
    "--cut": (),
    "--restore": "mean",
    "--arithmetic": "exact",
    "--seed": 0,
    "--in-dataset": False,
    "--between": (0.05, 0.3),
    "--out": "results/rd",
    "--fresh": False,
    "--inception": None,
    "--lpips": None,
    "--published": None,
    "--compare": False,
    "--json": False,
}


def bench(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(command, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("chelsea", "coffee"):
        Image.fromarray(photograph(name, 40, 32)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def first(photos, tmp_path_factory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("results") / "rd"
    code, said, _ = bench("--images", photos, *CHEAP, "--cut", 2.5, "--out", out, "--json")
    assert code == 0
    return out, said


def test_options_are_a_promise():
    found = {}
    for parameter in command.params:
        if parameter.name != "help":
            name = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.name
            default = parameter.to_info_dict()["default"]
            found[name] = default if not callable(default) and "UNSET" not in repr(default) else None
    assert found.keys() == PROMISED.keys()
    for name, default in PROMISED.items():
        assert (found[name] or default) == default, name


def test_help_fits_a_screen():
    _, out, _ = bench("--help")
    assert len(out.splitlines()) <= 45
    assert max(map(len, out.splitlines())) <= 80
    assert "Example: psc bench rd" in out


def test_the_record_holds_every_curve(first):
    out, said = first
    record = json.loads(out.with_suffix(".json").read_text())
    assert list(record["mean"]) == ["jpeg", "webp", "archive@gaussian"]
    ours = record["mean"]["archive@gaussian"]
    assert sorted(p["setting"] for p in ours) == ["2.5 bpp", "tier 0", "tier 1", "tier 2"]
    assert {p["nfe_encode"] for p in ours} == {6 * (4 + 2)}
    for points in record["mean"].values():
        for key in ("bpp", "psnr", "ssim"):
            assert [p[key] for p in points] == sorted(p[key] for p in points)
        for key in ("seconds_encode", "seconds_decode", "memory_mb_encode", "memory_mb_decode"):
            assert all(p[key] > 0 for p in points if key != "seconds_decode")
        assert all(p["ms_ssim"] is None for p in points)
    per_image = {(r["curve"], r["image"]): r["points"] for r in record["per_image"]}
    assert len(per_image) == 6
    mean = sum(per_image["jpeg", name]["bpp"][0] for name in ("chelsea.png", "coffee.png")) / 2
    assert record["mean"]["jpeg"][0]["bpp"] == pytest.approx(mean, abs=1e-4)
    assert record["images"]["coffee.png"].items() >= {"width": 40, "height": 32, "channels": 3}.items()
    assert Image.open(out.with_suffix(".png")).size[0] > 600
    assert json.loads(said.splitlines()[-1])["bd_rate_percent"]["jpeg"]["webp"] < 0


def test_a_record_tells_no_path(first, photos):
    text = first[0].with_suffix(".json").read_text()
    assert str(photos.parent) not in text
    assert os.path.expanduser("~") not in text


def test_every_byte_is_counted(first, photos):
    """The rate is that of a file that decodes alone, and a cut's is under its budget."""
    import psc_core

    profile = psc_core.get_profile("archive", tiers=3, canvas=64)
    prior = psc_core.load_prior("gaussian")
    stream = psc_core.encode(photograph("coffee", 40, 32), prior, profile)
    record = json.loads(first[0].with_suffix(".json").read_text())
    points = next(
        r["points"] for r in record["per_image"] if (r["curve"], r["image"]) == ("archive@gaussian", "coffee.png")
    )
    sizes = dict(zip(points["setting"], points["bytes"], strict=True))
    assert sizes["tier 2"] == len(stream.to_bytes())
    assert sizes["tier 0"] == len(stream.truncate(tier=0).to_bytes())
    assert sizes["2.5 bpp"] <= 2.5 * 40 * 32 / 8


def test_a_run_goes_on_where_it_was(first, photos, monkeypatch, tmp_path):
    """Half-written lines and other codecs' figures are passed over; nothing is measured twice."""
    out, _ = first
    checkpoint = Path(f"{out}.measured.jsonl")
    lines = checkpoint.read_text().splitlines()
    assert len(lines) == 6
    checkpoint.write_text("\n".join([*lines[:5], lines[5][:100]]))
    before = json.loads(out.with_suffix(".json").read_text())
    measured = []
    original = our_codecs.measure
    monkeypatch.setattr(our_codecs, "measure", lambda *a: measured.append(a[0].curve) or original(*a))
    code, _, said = bench("--images", photos, *CHEAP, "--cut", 2.5, "--out", out)
    assert code == 0
    assert measured == ["archive@gaussian"]
    assert "5 of 6 measurements read from rd.measured.jsonl" in said
    after = json.loads(out.with_suffix(".json").read_text())
    for name, points in before["mean"].items():
        assert [(p["bpp"], p["psnr"]) for p in points] == [(p["bpp"], p["psnr"]) for p in after["mean"][name]]
    other = tmp_path / "other"
    Path(f"{other}.measured.jsonl").write_text(checkpoint.read_text())
    bench("--images", photos, *CHEAP, "--cut", 2.5, "--out", other, "--set", "archive.step=2.0", "--every", 2)
    assert len(measured) == 2


def test_compare_reads_records(first, tmp_path):
    out, _ = first
    path = out.with_suffix(".json")
    code, said, _ = bench("--compare", path, "--json")
    assert code == 0
    assert "0.05 to 0.3 bpp" in said
    rates = json.loads(said.splitlines()[-1])["bd_rate"]
    stored = json.loads(path.read_text())["bd_rate"]
    assert [(r["anchor"], r["test"]) for r in rates] == [(r["anchor"], r["test"]) for r in stored]
    found = [(r["percent"], s["percent"]) for r, s in zip(rates, stored, strict=True)]
    assert all(a == pytest.approx(b, abs=0.2) for a, b in found if b is not None)
    (tmp_path / "b.json").write_text(path.read_text())
    code, said, _ = bench("--compare", path, tmp_path / "b.json", "--json")
    both = {(r["anchor"], r["test"]): r for r in json.loads(said.splitlines()[-1])["bd_rate"]}
    assert both["rd:jpeg", "b:jpeg"]["percent"] == 0
    assert both["rd:jpeg", "b:jpeg"]["images"] == 2


def test_variants_priors_and_joined_curves(photos, tmp_path):
    """Profiles with fields are curves of their own; a label joins several into one."""
    specs = ["archive:tiers=2", "single=archive:tiers=1,step=1.0", "single=archive:tiers=1,step=0.5"]
    arguments = [part for spec in specs for part in ("--profile", spec)]
    code, _, _ = bench(
        *("--images", photos, "--limit", 1, "--prior", "gaussian", "--codecs", "none", "--size", 20),
        *("--set", "archive.canvas=32", *arguments, "--out", tmp_path / "v"),
    )
    assert code == 0
    record = json.loads((tmp_path / "v.json").read_text())
    assert {name: len(points) for name, points in record["mean"].items()} == {
        "archive:tiers=2@gaussian": 2,
        "single@gaussian": 2,
    }
    assert record["about"]["archive:tiers=2@gaussian"]["profile"] == {"name": "archive", "tiers": 2, "canvas": 32}
    assert [about["profile"]["step"] for about in record["about"]["single@gaussian"]] == [1.0, 0.5]


def test_what_fails_is_named_and_the_rest_goes_on(photos, tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "src" / "good.png").write_bytes((photos / "coffee.png").read_bytes())
    monkeypatch.setattr(module, "BETWEEN", (0.1, 0.2))
    code, said, err = bench(
        "--images", tmp_path / "src", "--profile", "none", "--codecs", "jpeg", "--out", tmp_path / "x"
    )
    assert code == 1
    assert "bad.png" in err
    assert "jpeg" in said
    record = json.loads((tmp_path / "x.json").read_text())
    assert [f["image"] for f in record["failures"]] == ["bad.png"]
    assert list(record["images"]) == ["good.png"]


def test_an_absent_codec_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.bench.reference_codecs.missing", lambda name: "not here" if name == "heic" else None)
    code, _, err = bench(
        "--images", photos, "--profile", "none", "--codecs", "jpeg,heic", "--limit", 1, "--out", tmp_path / "x"
    )
    assert code == 0
    assert "heic is not measured: not here" in err
    assert json.loads((tmp_path / "x.json").read_text())["absent"] == {"heic": "not here"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--images"),
        (["--images", "EMPTY"], "no photographs"),
        (["--images", "PHOTOS", "--codecs", "jpeg,bmp"], "choose from jpeg"),
        (["--images", "PHOTOS", "--set", "paper.steps=3"], "no --profile of that name"),
        (["--images", "PHOTOS", "--set", "archive.steps"], "field=value"),
        (["--images", "PHOTOS", "--profile", "archive:steps"], "field=value"),
        (["--images", "PHOTOS", "--profile", "a=b=c"], "expected NAME"),
        (["--images", "PHOTOS", "--prior", "x/p", "--prior", "y/p"], "two of the same name"),
        (["--images", "PHOTOS", "--between", "0.3", "0.1"], "two rising rates"),
        (["--compare"], "RECORD.json"),
        (["--compare", "EMPTY"], "not a record"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(arguments, said, photos, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [{"PHOTOS": photos, "EMPTY": empty}.get(a, a) for a in arguments]
    code, _, err = bench(*given, "--out", tmp_path / "x")
    assert (code, said in err) == (2, True), err
    assert list(tmp_path.iterdir()) == [empty]


def test_class_conditional_priors_are_measured_under_their_labels(photos, tmp_path):
    """Where there is none, the image is a failure with its reason; another label is another measurement."""
    from tests.psc_core.priors.test_discrete import folder_of
    from tests.psc_core.priors.test_labels import tiny_labelled

    prior = folder_of(tmp_path / "labelled", unet=tiny_labelled())
    options = ["--codecs", "none", "--prior", prior, "--out", tmp_path / "rd", "--limit", 1]
    for field in ("tiers=1", "window=8", "restore_samples=2", "restore_steps=1"):
        options += ["--set", f"archive.{field}"]
    code, _, said = bench("--images", photos, *options)
    assert code == 2
    assert "chelsea.png: InvalidCondition: no class label" in said
    found = []
    for label in (3, 4):
        (tmp_path / "labels.json").write_text(json.dumps({"chelsea.png": label}))
        code, _, said = bench("--images", photos, *options, "--labels", tmp_path / "labels.json")
        assert code == 0
        assert "measurements read from" not in said
        record = json.loads((tmp_path / "rd.json").read_text())
        assert record["photographs"]["labels"] == "labels.json"
        (curve,) = record["mean"].values()
        found.append(curve[0]["bytes"])
        assert curve[0]["parameters"] == sum(p.numel() for p in tiny_labelled().parameters())
    assert found[0] != found[1]
