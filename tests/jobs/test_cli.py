"""The command line: names and defaults are a promise, exit codes too, and errors are one line."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
import time

import click
import pyarrow.parquet as pq
import pytest
import torch

from jobs import cli, progress, words
from pipeline import export
from pipeline.dataset import Dataset
from pipeline.results import Tally
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images

SCREEN = 42
"""Lines that a screen shows."""
PROMISED = {
    "compress": {
        "src": None,
        "dataset": None,
        "--profile": None,
        "--prior": None,
        "--tiers": None,
        "--max-bpp": None,
        "--target-psnr": None,
        "--size": None,
        "--seed": 0,
        "--arithmetic": "exact",
        "--captions": None,
        "--labels": None,
        "--captioner": None,
        "--workers": None,
        "--address": None,
        "--resume": False,
        "--json": False,
    },
    "decompress": {
        "source": None,
        "out": None,
        "--tier": None,
        "--bpp": None,
        "--restore": "mean",
        "--ids": None,
        "--format": "png",
        "--prior": None,
        "--workers": None,
        "--address": None,
        "--json": False,
    },
    "truncate": {
        "dataset": None,
        "dest": None,
        "--tier": None,
        "--bpp": None,
        "--resume": False,
        "--json": False,
    },
    "plan": {
        "src": None,
        "dataset": None,
        "--profile": None,
        "--prior": None,
        "--tiers": None,
        "--max-bpp": None,
        "--target-psnr": None,
        "--size": None,
        "--seed": 0,
        "--arithmetic": "exact",
        "--captions": None,
        "--labels": None,
        "--captioner": None,
        "--dry-run": False,
        "--json": False,
    },
    "retry": {
        "dataset": None,
        "--status": None,
        "--prior": None,
        "--workers": None,
        "--address": None,
        "--json": False,
    },
    "extend": {
        "dataset": None,
        "dest": None,
        "--source": None,
        "--tier": None,
        "--prior": None,
        "--workers": None,
        "--address": None,
        "--resume": False,
        "--json": False,
    },
    "clean": {"dataset": None, "--older-than": 24.0, "--dry-run": False, "--json": False},
    "export": {"dataset": None, "out": None, "--ids": None, "--all": False, "--tier": None, "--json": False},
    "info": {"path": None, "--json": False},
    "status": {"dataset": None, "--watch": None, "--json": False},
    "verify": {"dataset": None, "--deep": 0, "--prior": None, "--json": False},
    "report": {
        "dataset": None,
        "out": None,
        "--source": None,
        "--images": 8,
        "--prior": None,
        "--json": False,
    },
    "models": {"paths": None, "--fingerprint": False, "--json": False},
    "submit": {
        "arguments": None,
        "--address": None,
        "--prior": None,
        "--env-file": None,
        "--image": None,
        "--installed": False,
        "--pip": False,
        "--python": "python",
        "--id": None,
        "--no-wait": False,
        "--json": False,
    },
    "doctor": {"--store": None, "--json": False},
    "query": {"dataset": None, "sql": None, "--format": "table", "--out": None, "--json": False},
    "demo": {"out": "demo-output", "--size": 128, "--profile": "archive", "--workers": None, "--json": False},
    "train-prior": {
        "photographs": None,
        "output": None,
        "--work": None,
        "--start": None,
        "--config": None,
        "--iterations": 0,
        "--seconds": 0.0,
        "--batch": 32,
        "--crop": 64,
        "--learning-rate": 5e-4,
        "--ema": 0.999,
        "--seed": 0,
        "--name": "photo",
        "--data-note": None,
        "--device": "auto",
        "--compile": None,
        "--threads": 0,
        "--json": False,
    },
    "calibrate-prior": {
        "photographs": None,
        "priors": None,
        "--every": False,
        "--images": 40,
        "--windows": 50,
        "--rows": (24, 96, 384),
        "--samples": 8,
        "--steps": 12,
        "--arithmetic": "float",
        "--json": False,
    },
    "bench exact": {
        "--prior": "photo",
        "--profile": "archive",
        "--side": 32,
        "--set": None,
        "--python": None,
        "--quick": False,
        "--resume": False,
        "--out": "results/exact.json",
        "--json": False,
    },
    "bench latent": {
        "--part": ("unet", "autoencoder", "text"),
        "--repeat": 1,
        "--out": "results/latent-unet.json",
        "--json": False,
    },
    "bench seams": {
        "--images": None,
        "--prior": "photo",
        "--canvas": 128,
        "--tier": (0, 2, 4),
        "--set": None,
        "--size": None,
        "--crop": None,
        "--every": 1,
        "--limit": None,
        "--out": "results/seams.json",
        "--json": False,
    },
    "bench scale": {
        "--prior": "photo",
        "--profile": "archive",
        "--set": None,
        "--size": ("256x256", "1024x768", "2048x1536", "4000x3000"),
        "--out": "results/scale.json",
        "--json": False,
    },
    "bench speed": {
        "--prior": "photo",
        "--profile": "archive",
        "--size": (64, 128, 256),
        "--threads": (1, 2),
        "--repeat": 9,
        "--out": "results/speed.json",
        "--json": False,
    },
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    make_images(root / "src", 5)
    (root / "src" / "broken.jpg").write_bytes(b"no")
    make_dataset(root / "src", root / "ds")
    return str(root / "ds")


def psc(capfd, *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of one call."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return int(end.value.code or 0), out, err


def last_json(out: str) -> dict:
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("verb", PROMISED)
def test_names_and_defaults_are_frozen(verb):
    command = cli.psc
    for name in verb.split():
        command = command.get_command(click.Context(command), name)
    found = {}
    for parameter in command.params:
        name = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.name
        default = parameter.to_info_dict()["default"]
        found[name] = None if callable(default) or default == () or "UNSET" in repr(default) else default
    assert found == PROMISED[verb]


@pytest.mark.parametrize("verb", PROMISED)
def test_help_fits_a_screen_and_shows_an_example(capfd, verb):
    code, out, _ = psc(capfd, *verb.split(), "--help")
    assert code == 0
    assert len(out.splitlines()) <= SCREEN
    assert max(map(len, out.splitlines())) <= 80
    assert f"Example: psc {verb}" in out


def test_help_lists_what_is_there(capfd):
    code, out, _ = psc(capfd, "--help")
    assert code == 0
    assert len(out.splitlines()) <= SCREEN
    assert max(map(len, out.splitlines())) <= 80
    assert "Example:\n  psc compress" in out
    for verb in PROMISED:
        assert f"\n  {verb.split()[0]}" in out


def test_every_verb_has_made_its_promises():
    verbs = {*cli._MODULES, *(f"bench {name}" for name in cli._BENCHES)}
    # tests/jobs/test_bench_rd.py holds that one to its own.
    assert verbs == PROMISED.keys() | {"bench rd"}


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nsys.argv = ['psc', '--help']\nfrom jobs.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'diffusers', 'pyarrow', 'duckdb', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", ["status", "info"])
def test_looking_imports_neither_torch_nor_ray(dataset, verb):
    script = (
        "import sys\nfrom jobs.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'ray', 'diffusers'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", script, verb, dataset]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)


def test_verbs_are_functions():
    import jobs.status

    assert callable(jobs.status)
    assert callable(jobs.compress)
    from jobs import query

    assert query.__module__ == "jobs.query"


def test_status_info_verify(capfd, dataset):
    code, out, _ = psc(capfd, "status", dataset, "--json")
    assert code == 0
    assert last_json(out)["failed"] == {"unknown_format": 1}
    code, out, _ = psc(capfd, "status", dataset)
    assert "6 of 6 inputs; complete" in out
    code, out, _ = psc(capfd, "info", dataset)
    assert code == 0
    assert "prior_fingerprint" in out
    assert "\n     network calls  35\n" in out
    assert "nfe" not in out
    assert last_json(psc(capfd, "info", dataset, "--json")[1])["nfe"] == 35
    code, out, _ = psc(capfd, "verify", dataset, "--json")
    assert (code, last_json(out)["found"]) == (0, 0)


def test_status_watched_from_another_process(dataset, tmp_path):
    plan, encoder = plan_dataset(os.path.dirname(dataset) + "/src", tmp_path / "ds")
    command = [sys.executable, "-m", "jobs.cli", "status", str(tmp_path / "ds"), "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "0/6 images, … images/s, ETA …, 0 failed, no commit yet\n"
        run_shards(plan, encoder, tmp_path / "ds", [0, 1])
        while not (line := watching.stdout.readline()).startswith("4/6"):
            assert line
        assert re.search(r"4/6 images, \S+ images/s, ETA \S+, \d+\.\d{3} bpp, [01] failed, last commit \d+s ago", line)
        run_shards(plan, encoder, tmp_path / "ds", [2])
        assert watching.communicate(timeout=60)[0].splitlines()[-1].endswith("1 failed, complete")
        assert watching.returncode == 0


def test_status_watched_as_json(capfd, dataset):
    code, out, _ = psc(capfd, "status", dataset, "--watch", "--json")
    (line,) = out.splitlines()
    found = json.loads(line)
    assert code == 0
    assert (found["complete"], found["rows"], found["eta_seconds"], found["failed"]) == (
        True,
        6,
        0,
        {"unknown_format": 1},
    )
    code, _, err = psc(capfd, "status", "--watch", dataset)
    assert (code, "psc status DATASET --watch" in err) == (2, True)


def test_progress_in_lines_where_there_is_no_terminal(capfd, dataset, monkeypatch):
    opened = Dataset.open(dataset)
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, "1000")
    tally = Tally(opened.plan)
    with progress.tally_bar() as follow:
        follow(tally)
        for marker in opened.markers:
            tally.add(marker)
            follow(tally)
    first, last = capfd.readouterr().err.splitlines()
    assert first.startswith("0/6 images, … images/s, ETA …, 0 failed")
    assert re.fullmatch(r"6/6 images, \d\.\d{3} bpp, 1 failed, complete", last)


def test_progress_by_itself_where_there_is_no_terminal(capfd, dataset, monkeypatch):
    """Every verb has it: a line a minute, also while nothing is done; none where the work is short."""
    assert progress._interval() == (60.0, False)
    monkeypatch.setattr(progress, "_EVERY", 0.2)
    opened = Dataset.open(dataset)
    tally = Tally(opened.plan)
    with progress.tally_bar() as follow:
        time.sleep(0.3)
        follow(tally)
        tally.add(opened.markers[0])
        follow(tally)
        time.sleep(0.3)
    first, *others = capfd.readouterr().err.splitlines()
    assert re.fullmatch("nothing to count yet, [01]s so far", first)
    pattern = r"2/6 images, \S+ images/s, ETA \S+, \d\.\d{3} bpp, [01] failed, last commit \ds ago"
    assert len(others) >= 2
    assert all(re.fullmatch(pattern, line) for line in others)
    with progress.counting("part") as count:
        for done in range(4):
            count(done, 3)
            time.sleep(0.15)
    *_, middle, last = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"[12]/3 parts, \S+/s, ETA \ds", middle) or middle == "3/3 parts"
    assert last == "3/3 parts"
    with progress.counting("part") as count:
        count(1, 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("given", ["0", "0.05", "often", "-1", "nan"])
def test_how_often_progress_is_said(capfd, dataset, monkeypatch, given):
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, given)
    slow = export.export

    def export_slowly(*args, **options):
        time.sleep(0.2)
        return slow(*args, **options)

    monkeypatch.setattr("pipeline.export.export", export_slowly)
    code, out, err = psc(capfd, "export", dataset, os.path.dirname(dataset) + f"/out{given}", "--all", "--json")
    if given == "0":
        assert (code, err, len(out.splitlines())) == (0, "", 1)
    elif given == "0.05":
        assert (code, err.splitlines()[-1], len(out.splitlines())) == (0, "5/5 files", 1)
        assert err.startswith("nothing to count yet, 0s so far\n")
    else:
        assert (code, err.startswith(f"psc: PSC_PROGRESS_SECONDS={given}: expected a number")) == (2, True)


def test_the_bar_on_a_terminal(dataset):
    """Read from a real pseudo-terminal: images, speed, time left, rate, failures; its clock goes on by itself."""
    script = (
        "import sys, time\nfrom jobs.progress import tally_bar\nfrom pipeline.dataset import Dataset\n"
        "from pipeline.results import Tally\nopened = Dataset.open(sys.argv[1])\ntally = Tally(opened.plan)\n"
        "with tally_bar() as follow:\n    follow(tally)\n    tally.add(opened.markers[0])\n    time.sleep(0.3)\n"
        "    follow(tally)\n    time.sleep(2.5)\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    command = [sys.executable, "-c", script, dataset]
    with subprocess.Popen(command, stderr=theirs) as running:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 4096):
                said += chunk
    os.close(ours)
    assert running.returncode == 0
    shown = [s for s in said.decode().split("\r") if "2/6" in s]
    assert re.search(r"2/6 \[\d\d:\d\d<\d\d:\d\d, +\S+(img/s|s/img), bpp=\d\.\d{3}, failed=[01]\]", shown[0]), shown
    assert len({re.search(r"\[(\d\d:\d\d)<", s).group(1) for s in shown}) >= 2


def test_one_is_not_many():
    assert [words.counted(n, "input") for n in (0, 1, 2)] == ["0 inputs", "1 input", "2 inputs"]
    assert words.counted(3, "canvas") == "3 canvases"


def test_durations_for_people():
    assert [words.clock(s) for s in (0.4, 59.4, 60, 187, 3600, 18125, 90000, 273600)] == [
        *("0s", "59s", "1m00s", "3m07s", "1h00m", "5h02m", "1d01h", "3d04h")
    ]


def test_truncate_export_info(capfd, dataset, tmp_path):
    code, out, _ = psc(capfd, "truncate", dataset, tmp_path / "t", "--tier", 1, "--json")
    assert code == 0
    assert len(last_json(out)["tiers"]) == 2
    code, out, _ = psc(capfd, "truncate", dataset, tmp_path / "b", "--bpp", 0.001)
    assert code == 0
    assert "wrote 5 images" in out
    assert "\n1 input has no stream: 1 unknown_format\n" in out
    code, out, _ = psc(capfd, "export", tmp_path / "t", tmp_path / "psc", "--ids", "img0000.png,img0001.png")
    assert code == 0
    assert "wrote 2 files" in out
    code, out, _ = psc(capfd, "info", tmp_path / "psc" / "img0001.psc")
    assert "paper" in out
    assert re.search(r"tier +bytes +bytes_up_to +bpp +cut points\n", out)
    assert "cut points: where the stream may be cut" in out
    assert "cuts" not in out
    code, out, _ = psc(capfd, "info", tmp_path / "psc" / "img0001.psc", "--json")
    assert all(len(tier["cuts"]) == 3 for tier in last_json(out)["tiers"])
    code, out, _ = psc(capfd, "export", tmp_path / "t", tmp_path / "psc", "--ids", "img0000.png")
    assert out.startswith("wrote 1 file to ")
    ids = tmp_path / "ids.txt"
    ids.write_text("img0002.png\nimg0003.png\n")
    code, out, _ = psc(capfd, "export", dataset, tmp_path / "more", "--ids", f"@{ids}", "--json")
    assert last_json(out)["written"] == 2


def test_a_resumed_run_tells_what_it_did_and_what_there_is(capfd, dataset, tmp_path):
    asked = ["truncate", dataset, tmp_path / "t", "--tier", 1, "--resume"]
    code, out, err = psc(capfd, *asked)
    assert (code, err) == (0, f"nothing to resume at {tmp_path}/t: beginning it\n")
    assert re.match(rf"wrote 5 images into {tmp_path}/t: \d+ B, \S+ bpp, \S+ s\n1 input has no stream: 1 un", out)
    commits = sorted((tmp_path / "t" / "_psc" / "commits").iterdir())
    rows = {path: json.loads(path.read_text())["status"].get("ok", 0) for path in commits}
    commits[-1].unlink()
    code, out, err = psc(capfd, *asked)
    assert (code, err) == (0, "")
    done = words.counted(rows[commits[-1]], "image")
    assert re.match(rf"wrote {done} into {tmp_path}/t in \S+ s \(5 in all: \d+ B, \S+ bpp\)\n", out)
    code, out, _ = psc(capfd, *asked, "--json")
    assert (last_json(out)["made"], last_json(out)["ok"]) == (0, 5)


def test_a_refused_resume_begins_with_the_options_that_differ(capfd, dataset):
    asked = ["compress", os.path.dirname(dataset) + "/src", dataset, "--profile", "paper", "--resume"]
    code, _, err = psc(capfd, *asked, "--tiers", 6, "--size", 64)
    assert code == 2
    assert err.startswith("psc: --size none planned, 64 given; --tiers 4 planned, 6 given: give the planned values")
    assert not re.search("[0-9a-f]{16}", err)
    _, _, err = psc(capfd, *asked[:3], "--profile", "archive", "--resume")
    assert err.startswith("psc: --profile paper planned, archive given; --tiers 4 planned, 6 given: ")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("verb", ["plan", "compress", "truncate"])
def test_ctrl_c_before_anything_is_written(capfd, dataset, tmp_path, monkeypatch, verb, as_json):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.plan.spill", interrupted)
    monkeypatch.setattr("pipeline.rates._plan", interrupted)
    asked = {"truncate": [dataset, tmp_path / "new", "--tier", 0]}.get(
        verb, [os.path.dirname(dataset) + "/src", tmp_path / "new", "--prior", "gaussian"]
    )
    code, out, err = psc(capfd, verb, *asked, *(["--json"] if as_json else []))
    assert (code, err) == (130, "\npsc: stopped: nothing was begun, nothing is written\n")
    assert not (tmp_path / "new").exists()
    assert out == "" if not as_json else last_json(out)["error"] == "stopped"


def test_ctrl_c_elsewhere(capfd, dataset, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.audit._check_file", interrupted)
    assert psc(capfd, "verify", dataset) == (130, "", "\npsc: stopped\n")


def test_report(capfd, dataset, tmp_path):
    code, out, _ = psc(capfd, "report", dataset, tmp_path / "page.html", "--images", 0)
    assert (code, out.startswith(f"wrote {tmp_path}/page.html: ")) == (0, True)
    code, out, _ = psc(capfd, "report", dataset, tmp_path / "page.html", "--images", 0, "--json")
    told = last_json(out)
    assert (code, told["images"], told["failed"], told["pictures"]) == (0, 5, {"unknown_format": 1}, 0)
    assert [tier["tier"] for tier in told["tiers"]] == [0, 1, 2, 3]
    assert told["page_bytes"] == (tmp_path / "page.html").stat().st_size


def test_query_outputs(capfd, dataset, tmp_path):
    sql = "select status, count(*) as n from images group by 1 order by 1"
    code, out, _ = psc(capfd, "query", dataset, sql)
    assert code == 0
    assert out.splitlines()[2].split() == ["ok", "5"]
    _, out, _ = psc(capfd, "query", dataset, sql, "--format", "csv")
    assert out.splitlines() == ["status,n", "ok,5", "unknown_format,1"]
    _, out, _ = psc(capfd, "query", dataset, sql, "--format", "json")
    assert json.loads(out.splitlines()[0]) == {"status": "ok", "n": 5}
    _, out, _ = psc(capfd, "query", dataset, sql, "--json")
    assert last_json(out)["rows"][1] == {"status": "unknown_format", "n": 1}
    code, _, _ = psc(capfd, "query", dataset, sql, "--format", "parquet", "--out", tmp_path / "q.parquet")
    assert code == 0
    assert pq.read_table(tmp_path / "q.parquet")["n"].to_pylist() == [5, 1]


def test_errors_are_json_too(capfd, dataset, tmp_path):
    code, out, err = psc(capfd, "truncate", dataset, tmp_path / "t", "--tier", 9, "--json")
    assert code == 2
    assert last_json(out)["error"] == "tier_out_of_range"
    assert err.startswith("psc: tier 9")


def test_an_unexpected_error_has_no_traceback_unless_asked(capfd, dataset, monkeypatch):
    monkeypatch.setattr("pipeline.catalog.status", lambda path: 1 / 0)
    code, _, err = psc(capfd, "status", dataset)
    assert (code, len(err.splitlines())) == (2, 1)
    monkeypatch.setenv("PSC_DEBUG", "1")
    _, _, err = psc(capfd, "status", dataset)
    assert "Traceback" in err


def test_compress_and_decompress(capfd, ray_session, tmp_path):
    make_images(tmp_path / "src", 1, size=16)
    (tmp_path / "src" / "bad.png").write_bytes(b"?")
    torch.set_num_threads(1)
    cheap = ["--prior", "gaussian", "--size", 8, "--tiers", 1, "--workers", 2]
    code, out, _ = psc(capfd, "compress", tmp_path / "src", tmp_path / "ds", *cheap, "--json")
    assert code == 1
    assert last_json(out)["failed"] == {"unknown_format": 1}
    code, out, _ = psc(capfd, "compress", tmp_path / "src", tmp_path / "ds", *cheap, "--resume")
    assert code == 1
    assert "1 unknown_format" in out
    code, out, _ = psc(capfd, "decompress", tmp_path / "ds", tmp_path / "out", "--json")
    assert code == 0
    assert last_json(out)["written"] == 1


def test_plan_compress_retry_extend_clean(capfd, ray_session, tmp_path):
    make_images(tmp_path / "src", 1, size=16)
    (tmp_path / "src" / "late.png").write_bytes(b"?")
    torch.set_num_threads(1)
    asked = [tmp_path / "src", tmp_path / "ds", "--prior", "gaussian", "--size", 8, "--tiers", 1]
    code, out, _ = psc(capfd, "plan", *asked, "--dry-run", "--json")
    assert code == 0
    assert not (tmp_path / "ds").exists()
    fingerprint = last_json(out)["fingerprint"]
    code, out, _ = psc(capfd, "plan", *asked)
    assert (code, fingerprint in out) == (0, True)
    assert "2 inputs" in out
    code, _, err = psc(capfd, "compress", *asked[:-1], 2, "--resume")
    assert (code, err.startswith("psc: --tiers 1 planned, 2 given: ")) == (2, True)
    code, out, err = psc(capfd, "compress", *asked, "--workers", 1, "--resume", "--json")
    assert (code, last_json(out)["ok"], last_json(out)["made"]) == (1, 1, 1)
    assert "nothing to resume" not in err
    code, out, _ = psc(capfd, "compress", *asked, "--workers", 1, "--resume")
    assert re.match(rf"compressed 0 images into {tmp_path}/ds in \S+ s \(1 in all: ", out)
    make_images(tmp_path / "more", 1, size=12, seed=1)
    (tmp_path / "more" / "img0000.png").rename(tmp_path / "src" / "late.png")
    code, out, _ = psc(capfd, "retry", tmp_path / "ds", "--workers", 1)
    assert code == 0
    assert re.match(rf"1 failed input tried again\nrecovered 1 image into {tmp_path}/ds in \S+ s \(2 in all: ", out)
    code, out, _ = psc(capfd, "retry", tmp_path / "ds", "--workers", 1, "--json")
    assert (code, last_json(out)["recovered"], last_json(out)["retried"]) == (0, 0, 0)
    extend = ["extend", tmp_path / "ds", tmp_path / "more-tiers", "--source", tmp_path / "src", "--tier", 1]
    code, out, err = psc(capfd, *extend, "--workers", 1, "--resume", "--json")
    assert f"nothing to resume at {tmp_path}/more-tiers: beginning it\n" in err
    assert last_json(out)["made"] == 2
    assert (code, [t["images"] for t in last_json(out)["tiers"]]) == (0, [2, 2])
    left = tmp_path / "ds" / "_psc" / "spool" / "psc-x" / "half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    code, out, _ = psc(capfd, "clean", tmp_path / "ds")
    assert (code, left.exists()) == (0, True)
    code, out, _ = psc(capfd, "clean", tmp_path / "ds", "--older-than", 0, "--json")
    assert (code, last_json(out)["leftovers"]) == (0, ["_psc/spool/psc-x/half"])
    assert not left.parent.exists()
    code, _, _ = psc(capfd, "verify", tmp_path / "ds")
    assert code == 0
