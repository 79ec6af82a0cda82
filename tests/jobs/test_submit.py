"""What `psc submit` sends, follows and says, without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs import cli
from jobs.submit import _checked, _read_variables, submit
from pipeline.errors import BadRequest, Refused
from pipeline.remote import parcel, submission
from psc_core.priors import PRIORS_VARIABLE, load_prior

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8265"])
def test_a_cluster_that_asks_for_a_token(monkeypatch, address):
    import ray.job_submission
    from ray.exceptions import AuthenticationError

    def refused(where):
        raise AuthenticationError("Missing authentication token")

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", refused)
    with pytest.raises(submission.NoCluster, match=r"RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"):
        submission.connect(address)
