"""Names and defaults of the command line are a promise; help is a page, and costs nothing to load."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from jobs import cli
from tests.jobs.command import psc

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
        "--max-pixels": 100_000_000,
        "--seed": 0,
        "--arithmetic": "exact",
        "--captions": None,
        "--labels": None,
        "--captioner": None,
        "--workers": None,
        "--worker-cpus": None,
        "--worker-gpus": None,
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
        "--worker-cpus": None,
        "--worker-gpus": None,
        "--address": None,
        "--resume": False,
        "--overwrite": False,
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
        "--max-pixels": 100_000_000,
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
        "--worker-cpus": None,
        "--worker-gpus": None,
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
        "--worker-cpus": None,
        "--worker-gpus": None,
        "--address": None,
        "--resume": False,
        "--json": False,
    },
    "clean": {"dataset": None, "--older-than": 24.0, "--dry-run": False, "--json": False},
    "export": {
        "dataset": None,
        "out": None,
        "--ids": None,
        "--all": False,
        "--tier": None,
        "--overwrite": False,
        "--json": False,
    },
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
    "query": {"dataset": None, "sql": None, "--format": "table", "--out": None, "--overwrite": False, "--json": False},
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
