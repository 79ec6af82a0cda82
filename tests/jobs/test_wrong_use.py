"""Wrong use, verb by verb: one line that names the fix, exit status 2, nothing written."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs import cli
from pipeline.audit import verify
from pipeline.stores.reach import error_code, refusal
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.s3 import environment, s3_server

CHEAP = ["--prior", "gaussian"]
CASES = {
    "missing path": [
        (["compress", "gone", "out"], "no such file"),
        (["plan", "gone", "out", *CHEAP], "no such file"),
        (["decompress", "gone", "out"], "nothing is there"),
        (["truncate", "gone", "out", "--tier", "0"], "nothing is there"),
        (["extend", "gone", "out", "--source", "src", "--tier", "5"], "nothing is there"),
        (["extend", "part", "out", "--source", "gone", "--tier", "3", *CHEAP], "no such file"),
        (["export", "gone", "out", "--all"], "nothing is there"),
        (["retry", "gone"], "nothing is there"),
        (["clean", "gone"], "not a PSC dataset"),
        (["verify", "gone"], "nothing is there"),
        (["status", "gone"], "nothing is there"),
        (["status", "gone", "--watch"], "nothing is there"),
        (["info", "gone"], "nothing is there"),
        (["query", "gone", "from images"], "nothing is there"),
        (["report", "gone", "p.html"], "nothing is there"),
        (["report", "ds", "p.html", "--source", "gone"], "no such file"),
        (["plan", "src", "out", "--prior", "gone"], "Give a folder"),
        (["submit", "--env-file", "gone", "--", "status", "ds"], "--env-file gone"),
        (["submit", "--prior", "gone", "--", "retry", "ds"], "nothing is there"),
    ],
    "unknown profile": [
        (["compress", "src", "out", "--profile", "nope"], "choose one of"),
        (["plan", "src", "out", "--profile", "nope"], "choose one of"),
    ],
    "not a dataset": [
        (["decompress", "src", "out"], "not a PSC dataset"),
        (["decompress", "file", "out"], "begins with"),
        (["truncate", "src", "out", "--tier", "0"], "not a PSC dataset"),
        (["extend", "src", "out", "--source", "src", "--tier", "1"], "not a PSC dataset"),
        (["export", "src", "out", "--all"], "not a PSC dataset"),
        (["retry", "src"], "not a PSC dataset"),
        (["clean", "src"], "not a PSC dataset"),
        (["verify", "src"], "not a PSC dataset"),
        (["status", "src"], "not a PSC dataset"),
        (["info", "src"], "not a PSC dataset"),
        (["query", "src", "from images"], "not a PSC dataset"),
        (["report", "src", "p.html"], "not a PSC dataset"),
    ],
    "tier out of range": [
        (["truncate", "ds", "out", "--tier", "7"], "tiers 0 to 3"),
        (["truncate", "ds", "out", "--tier", "-1"], "tiers 0 to 3"),
        (["decompress", "ds", "out", "--tier", "9"], "tiers 0 to 3"),
        (["export", "ds", "out", "--all", "--tier", "4"], "tiers 0 to 3"),
        (["extend", "ds", "out", "--source", "src", "--tier", "2"], "holds tiers 0 to 3"),
        (["compress", "src", "out", "--tiers", "0"], "tiers"),
    ],
    "read-only target": [
        (["compress", "src", "/proc/out"], "cannot be written"),
        (["plan", "src", "/proc/out"], "cannot be written"),
        (["decompress", "ds", "/proc/out"], "cannot be written"),
        (["truncate", "ds", "/proc/out", "--tier", "0"], "cannot be written"),
        (["extend", "part", "/proc/out", "--source", "src", "--tier", "3"], "cannot be written"),
        (["export", "ds", "/proc/out", "--all"], "cannot be written"),
        (["report", "ds", "/proc/p.html"], "cannot be written"),
        (["query", "ds", "from images", "--out", "/proc/out"], "/proc/out"),
    ],
    "target in the way": [
        (["compress", "src", "ds"], "--resume"),
        (["plan", "src", "ds"], "has a plan already"),
        (["compress", "src", "file"], "give a folder"),
        (["compress", "src", "src"], "choose an empty or a new folder"),
        (["truncate", "ds", "file/x", "--tier", "0"], "give a path under a folder"),
        (["report", "ds", "out"], ".html"),
        (["decompress", "ds", "ds"], "outside of it"),
        (["decompress", "ds", "part", "--format", "parquet", "--overwrite"], "files are its own"),
        (["decompress", "ds", "src", "--overwrite"], "are not known to be"),
        (["decompress", "ds", ".", "--resume", "--overwrite"], "choose one"),
        (["export", "ds", "ds", "--all"], "outside of it"),
        (["export", "ds", "part", "--all", "--overwrite"], "files are its own"),
    ],
    "bad value": [
        (["compress", "src", "out", "--max-bpp", "0"], "max_bpp"),
        (["compress", "src", "out", "--size", "0"], "size"),
        (["compress", "src", "out", "--workers", "0", *CHEAP], "workers"),
        (["compress", "src", "out", "--arithmetic", "vague"], "exact"),
        (["compress", "nosuch://b/x", "out"], "s3://bucket"),
        (["compress", "src", "nosuch://b/x"], "s3://bucket"),
        (["plan", "src", "out", "--size", "0"], "size"),
        (["retry", "ds", "--status", "io_error"], "unknown_format"),
        (["clean", "ds", "--older-than", "-1"], "older_than"),
        (["export", "ds", "out", "--ids", "nobody"], "psc query"),
        (["report", "ds", "p.html", "--images", "-1"], "at least 0"),
        (["status", "ds", "--watch", "0"], "above 0"),
        (["query", "ds", "selec"], "views"),
        (["query", "ds", "from nothing"], "views"),
        (["submit", "--address", "http://127.0.0.1:9", "--", "status", "ds"], "port-forward"),
    ],
    "missing argument": [
        (["compress", "src"], "--help"),
        (["extend", "ds", "out", "--tier", "5"], "--source"),
        (["truncate", "ds", "out"], "a tier (--tier) or a number of bits a pixel (--bpp)"),
        (["export", "ds", "out"], "--ids"),
        (["query", "ds", "select 1", "--format", "parquet"], "--out"),
        (["submit"], "no verb"),
        (["frobnicate"], "--help"),
    ],
}
STORE_CASES = [
    ["compress", "{url}", "out", *CHEAP],
    ["compress", "src", "{url}", *CHEAP],
    ["plan", "{url}", "out", *CHEAP],
    ["plan", "src", "{url}", *CHEAP],
    ["decompress", "{url}", "out"],
    ["decompress", "ds", "{url}"],
    ["truncate", "{url}", "out", "--tier", "0"],
    ["truncate", "ds", "{url}", "--tier", "0"],
    ["extend", "{url}", "out", "--source", "src", "--tier", "5"],
    ["export", "{url}", "out", "--all"],
    ["export", "ds", "{url}", "--all"],
    ["retry", "{url}"],
    ["clean", "{url}"],
    ["verify", "{url}"],
    ["status", "{url}"],
    ["status", "{url}", "--watch"],
    ["info", "{url}"],
    ["query", "{url}", "from images"],
    ["report", "{url}", "p.html"],
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """``src``, a dataset ``ds`` of it in which one input failed, ``part``: its lower tiers, and a ``file``."""
    from pipeline.rates import truncate

    root = tmp_path_factory.mktemp("wrong")
    make_images(root / "src", 3)
    (root / "src" / "broken.jpg").write_bytes(b"no")
    make_dataset(root / "src", root / "ds")
    truncate(str(root / "ds"), str(root / "part"), tier=1)
    (root / "file").write_text("x")
    return root


@pytest.fixture
def here(pristine, tmp_path, monkeypatch):
    """A copy to run in, so that whatever a verb writes beside its target is seen."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def refused(capfd, here: Path, arguments: list[str]) -> str:
    """The one line that a refusal says; checks that it is one, and that nothing was touched."""
    before = contents(here)
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out, err = capfd.readouterr()
    assert end.value.code == 2, (out, err)
    assert len(err.splitlines()) == 1, err
    assert err.startswith("psc: ")
    assert "PSC_DEBUG" not in err, err
    assert contents(here) == before
    return err


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        pytest.param(a, f, id=f"{kind}: {' '.join(a)}".replace("/", "|"))
        for kind, rows in CASES.items()
        for a, f in rows
    ],
)
def test_wrong_use(capfd, here, arguments, fix):
    assert fix in refused(capfd, here, arguments)


NOT_UTF_8 = os.fsdecode(b"b\xe4d")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress", NOT_UTF_8, "out", *CHEAP],
        ["compress", "src", f"{NOT_UTF_8}/out", *CHEAP],
        ["plan", NOT_UTF_8, "out", *CHEAP],
        ["truncate", "ds", f"{NOT_UTF_8}/out", "--tier", "0"],
        ["export", "ds", NOT_UTF_8, "--all"],
        *([verb, NOT_UTF_8] for verb in ("status", "verify", "info", "clean")),
        ["query", NOT_UTF_8, "from images"],
        ["status", f"file://{NOT_UTF_8}"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments)),
)
def test_a_name_that_is_no_text(capfd, here, arguments):
    shutil.copytree(here / "ds", here / NOT_UTF_8)
    said = refused(capfd, here, arguments)
    assert "b\\xe4d" in said
    assert "ln -s" in said


def test_a_link_to_a_name_that_is_no_text(here):
    shutil.copytree(here / "ds", here / NOT_UTF_8)
    (here / "text").symlink_to(here / NOT_UTF_8)
    assert verify("text").exit_code == 0
    (here / "source").symlink_to(here / NOT_UTF_8)
    shutil.copy(here / "src" / "img0000.png", here / NOT_UTF_8)
    assert make_dataset("source", here / "again").items >= 1


def test_every_verb_has_its_rows():
    rows = [case for cases in CASES.values() for case, _ in cases]
    assert {row[0] for row in rows} >= cli._MODULES.keys() - {
        "demo",
        "doctor",
        "models",
        "train-prior",
        "calibrate-prior",
    }


ANSWERS = {
    "wrong key": (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
    "wrong secret": (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
    "not allowed": (403, "AccessDenied", "what they may do there"),
    "no bucket": (404, "NoSuchBucket", "create it"),
}


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A server that answers every request of S3 with one error, as Amazon's does."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>No.</Message></Error>'.encode()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(monkeypatch):
    """Sets what s3fs needs to know; nothing of another test's connection is left."""
    from s3fs import S3FileSystem

    def use(endpoint: str, key: str = "key", secret: str = "secret") -> None:
        variables = environment(endpoint, {"key": key, "secret": secret, "region": "us-east-1"})
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()

    yield use
    S3FileSystem.clear_instance_cache()


# Each verb meets one of the answers here, and every one of a real store in the slow test below.
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [(case, list(ANSWERS)[place % len(ANSWERS)]) for place, case in enumerate(STORE_CASES)],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_a_store_that_refuses(capfd, here, store, arguments, answer):
    status, code, fix = ANSWERS[answer]
    with answering(status, code) as endpoint:
        store(endpoint)
        said = refused(capfd, here, [a.format(url="s3://bucket/there") for a in arguments])
    assert fix in said
    assert "s3://bucket/there" in said


def test_no_credentials(capfd, here, store, monkeypatch):
    store("http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(here / "none"))
    assert "set AWS_ACCESS_KEY_ID" in refused(capfd, here, ["status", "s3://bucket/there"])


def test_a_store_that_does_not_answer(capfd, here, store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    store("http://127.0.0.1:9")
    assert "AWS_ENDPOINT_URL" in refused(capfd, here, ["status", "s3://bucket/there"])


def test_other_errors_are_left_alone():
    assert refusal("s3://b", ValueError("odd")) is None
    assert error_code(None) == ""


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("arguments", STORE_CASES, ids=" ".join)
@pytest.mark.parametrize("wrong", ["bucket", "secret", "key"])
def test_a_real_store_that_refuses(capfd, here, store, swift, arguments, wrong):
    key = "nobody:here" if wrong == "key" else swift["key"]
    store(swift["endpoint"], key, "wrong" if wrong == "secret" else swift["secret"])
    said = refused(capfd, here, [a.format(url="s3://no-such-bucket/there") for a in arguments])
    assert ("create it" if wrong == "bucket" else "AWS_ACCESS_KEY_ID") in said
