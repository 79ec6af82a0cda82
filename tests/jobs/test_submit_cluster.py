"""`psc submit` against a real `ray start --head`, from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.submit import submit
from pipeline.dataset.reader import Dataset
from pipeline.remote import submission
from psc_core.priors import load_prior
from tests.jobs.ray_head import free_ports, ray_head
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ray_head(tmp_path_factory.mktemp("head")) as url:
        yield url


def run(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess:
    """`psc submit` as a process in another folder than the cluster's, or the project's."""
    command = [sys.executable, "-m", "jobs.cli", "submit", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=170)


def test_a_job_compresses_with_a_prior_that_came_along(cluster, tmp_path, tiny_prior):
    make_images(tmp_path / "src", 3, size=12)
    (tmp_path / "src" / "broken.jpg").write_bytes(b"no")
    asked = ["compress", "src", "ds", "--tiers", "1", "--workers", "1"]
    found = run(tmp_path, "--address", cluster, "--prior", tiny_prior, "--json", "--", *asked)
    ended = json.loads(found.stdout.splitlines()[-1])
    assert found.returncode == ended["exit_code"] == 1, found
    assert (ended["status"], ended["reason"]) == ("FAILED", "1 input has no stream: 1 unknown_format")
    assert found.stderr.endswith(f"psc: job {ended['job_id']} ended with status 1: {ended['reason']}\n")
    assert "4/4 images" in found.stdout
    assert f"job {ended['job_id']} is on the cluster" in found.stderr
    # It was that cluster's own driver, and started none for itself.
    assert submission.connect(cluster).get_job_info(ended["job_id"]).driver_info is not None
    dataset = Dataset.open(str(tmp_path / "ds"))
    assert dataset.complete
    assert dataset.tally().status == {"ok": 3, "unknown_format": 1}
    assert dataset.shared.prior_fingerprint == load_prior(str(tiny_prior)).fingerprint


def test_a_job_decodes_on_its_cluster(cluster, tmp_path):
    make_images(tmp_path / "src", 2, size=8)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    # A stand-in made the streams, so that they do not decode: a worker says so.
    ended = submit(["decompress", str(tmp_path / "ds"), str(tmp_path / "out"), "--prior", "gaussian"], address=cluster)
    assert (ended.status, ended.exit_code) == ("FAILED", 2)
    assert "needs prior 'fake'" in ended.reason
    assert submission.connect(cluster).get_job_info(ended.job_id).driver_info is not None


def test_the_exit_status_and_the_reason_come_through(cluster, tmp_path):
    said: list[str] = []
    bad = submit(["verify", str(tmp_path / "gone")], address=cluster, say=said.append)
    assert (bad.status, bad.exit_code) == ("FAILED", 2)
    assert "is not a PSC dataset" in bad.reason
    assert f"psc: {bad.reason}\n" in "".join(said)


def test_nobody_at_the_address(tmp_path):
    (port,) = free_ports(1)
    found = run(tmp_path, "--address", f"http://127.0.0.1:{port}", "--", "status", "ds")
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"psc: no Ray cluster answers at http://127.0.0.1:{port}")
    assert "port-forward" in line


@pytest.mark.slow
def test_a_stopped_job_drains(cluster, tmp_path):
    make_images(tmp_path / "src", 40, size=48)
    command = [sys.executable, "-m", "jobs.cli", "submit", "--address", cluster, "--id", "drained", "--"]
    asked = ["compress", "src", "ds", "--tiers", "6", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, *asked], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as job:
        commits = tmp_path / "ds" / "_psc" / "commits"
        deadline = time.monotonic() + 100
        while not list(commits.glob("*.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        submission.connect(cluster).stop_job("drained")
        said = job.communicate(timeout=100)[1]
    assert job.returncode == 130
    assert "--resume goes on" in said
    done = Dataset.open(str(tmp_path / "ds"))
    assert 0 < done.tally().shards < done.plan.shards
    assert run(tmp_path, "--address", cluster, "--", *asked, "--resume").returncode == 0
    assert Dataset.open(str(tmp_path / "ds")).complete


@pytest.mark.slow
def test_a_cluster_that_wants_a_token(tmp_path):
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "open-sesame-" * 4}
    with ray_head(tmp_path, **token) as url:
        found = run(tmp_path, "--address", url, "--", "status", "gone", **token)
        assert found.returncode == 2
        assert "is not a PSC dataset" in found.stdout
        for wrong in ({"RAY_AUTH_MODE": "disabled"}, token | {"RAY_AUTH_TOKEN": "another-" * 4}):
            refused = run(tmp_path, "--address", url, "--", "status", "gone", **wrong)
            assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused
