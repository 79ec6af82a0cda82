"""`psc submit` against a real `ray start --head`, from another folder; and its parts alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DModel

import psc_core
from jobs import cli
from jobs.submit import _checked, _read_variables, submit
from pipeline import parcel, submission
from pipeline.dataset import Dataset
from pipeline.errors import BadRequest, Refused
from psc_core.priors import PRIORS_VARIABLE, load_prior
from tests.pipeline.conftest import make_images

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Above those that Ray gives to workers, and nobody's."""
    sockets = []
    for port in range(28300, 32000):
        if len(sockets) == count:
            break
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            one.close()
        else:
            sockets.append(one)
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def ray_head(folder: Path, **variables: str):
    """The dashboard's URL of a cluster that knows nothing of this project."""
    dashboard, client, agent = free_ports(3)
    # Its sockets' names may have 107 characters.
    temp = Path(f"/tmp/psc-{os.getpid()}-{dashboard}")
    options = {
        "port": 0,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": temp,
        "num-cpus": 2,
        "object-store-memory": 80_000_000,
        "include-dashboard": "true",
    }
    programs = Path(sys.executable).parent
    command = [
        programs / "ray",
        "start",
        "--head",
        "--block",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    environment |= {"PATH": f"{programs}:{environment['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    with open(folder / "ray.log", "w") as log:
        head = subprocess.Popen(
            command, cwd="/", env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(url, head, folder / "ray.log")
        yield url
    finally:
        # Nothing of it is kept: all its processes at once, without waiting for each other.
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(temp, ignore_errors=True)


def wait_for(url: str, head: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and head.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/api/version", timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"ray start --head does not answer:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def tiny_prior(tmp_path_factory):
    """A folder as `psc train-prior` writes it, its network small and untrained."""
    folder = tmp_path_factory.mktemp("priors") / "tiny-prior"
    down, up = ("DownBlock2D",) * 2, ("UpBlock2D",) * 2
    torch.manual_seed(0)
    UNet2DModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=down,
        up_block_types=up,
        mid_block_type=None,
        norm_num_groups=4,
        add_attention=False,
        resnet_time_scale_shift="scale_shift",
    ).save_pretrained(folder)
    bundled = Path(psc_core.__file__).parent / "priors" / "photo" / "prior.json"
    (folder / "prior.json").write_text(json.dumps(json.loads(bundled.read_text()) | {"name": "tiny-prior"}))
    return folder


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


def test_the_parcel_is_the_package_and_runs_alone(tmp_path, tiny_prior):
    assert parcel.pack(tmp_path, package=True, priors=[str(tiny_prior)]) == [tiny_prior.name]
    held = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert {"jobs/submitted.py", "psc_core/exact/kernels/psc.c", f"priors/{tiny_prior.name}/prior.json"} <= held
    assert {"psc_core/priors/photo/diffusion_pytorch_model.safetensors", "pipeline/run.py"} <= held
    assert ("psc_core/exact/_native.so" in held) == (ROOT / "psc_core/exact/_native.so").exists()
    assert not [name for name in held if name.endswith(".pyc")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {PRIORS_VARIABLE: parcel.PRIORS}
    command = [sys.executable, "-P", "-m", "jobs.submitted", "--chdir", "/", "info", str(tmp_path / "gone")]
    found = subprocess.run(
        command, cwd=tmp_path, env=environment | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (found.returncode, "is not a PSC dataset" in found.stderr) == (2, True)


def test_a_folder_that_the_cluster_lacks(tmp_path):
    command = [sys.executable, "-m", "jobs.submitted", "--chdir", str(tmp_path / "gone"), "info", "x"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert "give absolute paths" in found.stdout


def test_priors_by_name(tmp_path, tiny_prior, monkeypatch):
    """A carried prior keeps its name: what the plan and the streams say does not depend on where Ray unpacked it."""
    from pipeline.request import PRIORS_VARIABLE as THEIRS
    from pipeline.request import Request

    assert THEIRS == PRIORS_VARIABLE
    monkeypatch.setenv(PRIORS_VARIABLE, str(tiny_prior.parent))
    assert Request(prior=tiny_prior.name).absolute().prior == tiny_prior.name
    assert load_prior(tiny_prior.name).fingerprint == load_prior(str(tiny_prior)).fingerprint


def test_what_comes_along_is_checked(tmp_path):
    for name in ("photo", "a/x", "b/x"):
        (tmp_path / name).mkdir(parents=True)
    for priors, fix in ((["gone"], "nothing is there"), (["photo"], "rename"), (["a/x", "b/x"], "rename")):
        with pytest.raises(BadRequest, match=fix):
            parcel.pack(tmp_path / "to", package=False, priors=[str(tmp_path / p) for p in priors])


def test_pip_gets_what_the_package_needs_without_ray():
    needed = parcel.requirements()
    assert any(line.startswith("torch") for line in needed)
    assert not [line for line in needed if line.startswith(("ray", "pytest"))]


@pytest.mark.parametrize(
    ("arguments", "folder", "prior"),
    [
        (["compress", "/a", "s3://b/c"], None, (False, True)),
        (["compress", "a", "s3://b/c"], "here", (False, True)),
        (["compress", "/a", "out", "--prior", "photo"], "here", (True, True)),
        (["extend", "/a", "/b", "--source", "photos", "--tier", "3"], "here", (False, True)),
        (["truncate", "/a", "/b", "--tier", "1"], None, (False, False)),
        (["compress", "zip://*.png::/a.zip", "/b"], None, (False, True)),
    ],
)
def test_relative_paths_begin_here(arguments, folder, prior, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _checked(arguments) == (str(tmp_path) if folder else None, *prior)


def test_the_environment_file(tmp_path):
    file = tmp_path / "env"
    file.write_text("# keys\n\nAWS_ACCESS_KEY_ID=abc\nexport B='x = y'\nC=\"\"\n")
    assert _read_variables(str(file)) == {"AWS_ACCESS_KEY_ID": "abc", "B": "x = y", "C": ""}
    file.write_text("A=1\nsecret\n")
    with pytest.raises(BadRequest, match="line 2") as error:
        _read_variables(str(file))
    assert "secret" not in str(error.value)


class Client:
    """Ray's client, as far as it is used, with what it was given."""

    def __init__(self, **info) -> None:
        self.given: dict = {}
        self.info = SimpleNamespace(
            **{"status": submission_status("SUCCEEDED"), "driver_exit_code": 0, "message": ""} | info
        )

    def submit_job(self, **given):
        self.given = given
        folder = given["runtime_env"].get("working_dir")
        self.held = sorted(p.name for p in Path(folder).iterdir()) if folder else []
        return "job-1"

    async def tail_job_logs(self, job_id):
        yield "one\ntwo\n"
        raise RuntimeError("cut")

    def get_job_info(self, job_id):
        return self.info

    def get_job_logs(self, job_id):
        return "one\ntwo\npsc: three\n"


def submission_status(name: str):
    from ray.job_submission import JobStatus

    return JobStatus(name)


@pytest.fixture
def client(monkeypatch):
    made = Client()
    monkeypatch.setattr(submission, "connect", lambda address: made)
    monkeypatch.setattr(submission, "_POLL", 0.01)
    return made


def test_what_is_sent(client, tmp_path, tiny_prior, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "env").write_text("KEY=1")
    submit(["compress", "a b", "/ds"], prior=[str(tiny_prior)], env_file="env", wait=False, python="python3")
    name = tiny_prior.name
    assert client.given["entrypoint"] == (
        f"exec python3 -m jobs.submitted --chdir {tmp_path} compress 'a b' /ds --prior {name}"
    )
    assert client.given["runtime_env"]["env_vars"].items() >= {"KEY": "1", "PSC_PRIORS": "priors"}.items()
    assert client.held == ["jobs", "pipeline", "priors", "psc_core"]
    submit(["compress", "/a", "/ds"], image="registry/psc:1", wait=False)
    assert client.given["runtime_env"].keys() == {"image_uri", "env_vars"}
    submit(["compress", "/a", "/ds"], installed=True, wait=False)
    assert client.given["runtime_env"].keys() == {"env_vars"}
    submit(["compress", "/a", "/ds"], with_pip=True, wait=False)
    assert client.given["runtime_env"]["pip"] == parcel.requirements()


def test_logs_are_whole_when_the_connection_breaks(client):
    said: list[str] = []
    ended = submit(["status", "/ds"], say=said.append)
    assert "".join(said) == "one\ntwo\npsc: three\n"
    assert (ended.exit_code, ended.reason) == (0, "")


@pytest.mark.parametrize(
    ("info", "code", "reason"),
    [
        ({"status": "FAILED", "driver_exit_code": 2}, 2, "three"),
        ({"status": "FAILED", "driver_exit_code": -9}, 1, "SIGKILL"),
        ({"status": "FAILED", "driver_exit_code": 1}, 1, "three"),
        ({"status": "FAILED", "driver_exit_code": 127}, 127, "--python"),
        ({"status": "FAILED", "driver_exit_code": None, "message": "Out of nodes\nmore"}, 1, "Out of nodes"),
        ({"status": "STOPPED", "driver_exit_code": None}, 130, "--resume"),
    ],
)
def test_ends_and_their_reasons(info, code, reason):
    about = SimpleNamespace(**{"message": ""} | info | {"status": submission_status(info["status"])})
    ended = submission.outcome("job", about, ["two", "psc: three", "Running entrypoint for job x: y"])
    assert ended.exit_code == code
    assert reason in ended.reason
    assert "\n" not in ended.reason


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["2 inputs have no stream: 2 io_error", "", "tier  images", "0  3  1.2 kB"],
            "2 inputs have no stream: 2 io_error",
        ),
        (["5 parts, 6 rows, 5 streams: 1 problem"], "done, but not all went well: it says what, above"),
    ],
)
def test_inputs_that_failed_are_the_reason(lines, reason):
    about = SimpleNamespace(status=submission_status("FAILED"), driver_exit_code=1, message="")
    assert submission.outcome("job", about, lines).reason == reason


def test_the_end_of_a_traceback_says_most():
    raised = "Request failed: Traceback (most recent call last):\n  File\nValueError: Job a exists.\n.\n."
    assert submission._line(raised) == "ValueError: Job a exists."
    env = "setup failed.\n[Node] Traceback (most recent call last):\n x\nFileNotFoundError: podman\n"
    assert submission._line(env) == "setup failed: FileNotFoundError: podman"


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ([], "no verb"),
        (["--", "frobnicate"], "goes one of"),
        (["--", "submit", "status"], "goes one of"),
        (["--", "compress", "a", "b", "--tiers", "many"], "psc compress"),
        (["--", "compress", "a"], "DATASET"),
        (["--image", "x", "--installed", "--", "status", "a"], "--image"),
        (["--installed", "--pip", "--", "status", "a"], "choose one"),
        (["--env-file", "gone", "--", "status", "a"], "--env-file gone"),
        (["--prior", "gone", "--", "compress", "a", "b"], "nothing is there"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_sent(capfd, monkeypatch, arguments, fix):
    monkeypatch.setattr(submission, "connect", lambda address: pytest.fail("connected"))
    with pytest.raises(SystemExit) as end:
        cli.main(["submit", *arguments])
    err = capfd.readouterr().err
    assert end.value.code == 2
    assert (len(err.splitlines()), fix in err) == (1, True), err


def test_a_job_that_is_not_taken():
    class Full(Client):
        def submit_job(self, **given):
            raise RuntimeError("Request failed with status code 500: no room")

    with pytest.raises(Refused, match="no room"):
        submission.send(Full(), "true", {})
