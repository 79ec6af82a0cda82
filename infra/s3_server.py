"""A real S3 endpoint on this machine for tests and trials: OpenStack Swift with its s3api, on one node.

    python infra/s3_server.py DIR [--port N] [--venv FOLDER]

Data and settings lie in DIR. Swift runs in a virtual environment of its own, made from PyPI when it is not there
yet (about 80 MB). Once it answers, one line of JSON with the endpoint, key and secret goes to stdout; SIGTERM or
Ctrl-C ends it. Create-only writes (``If-None-Match: *``) and wrong secrets are refused as on Amazon's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import NoReturn

REQUIREMENT = "swift==2.38.*"
KEY, SECRET, REGION = "test:tester", "testing", "us-east-1"
SERVERS = ("object", "container", "account")
_START_SECONDS = 90
_COMMON = """[DEFAULT]
swift_dir = {folder}
devices = {folder}/node
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
log_level = WARNING
log_address = /dev/null
fallocate_reserve = 0
disable_fallocate = true
"""
_STORAGE = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_SWIFT = """[swift-hash]
swift_hash_path_suffix = psc
swift_hash_path_prefix = psc
[storage-policy:0]
name = p0
default = yes
"""
_FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "copy", "slo", "dlo")
_PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats bulk s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
auth_pipeline_check = true
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""


def main() -> None:
    """Install, configure, start, and wait."""
    options = _arguments()
    folder = Path(options.folder).absolute()
    port = options.port or _free_ports()
    programs = install(Path(options.venv).expanduser())
    configure(folder, port, programs)
    servers = start(folder, programs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait(endpoint, servers)
        print(json.dumps({"endpoint": endpoint, "key": KEY, "secret": SECRET, "region": REGION}), flush=True)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        _fail("a server ended; its log is in DIR")
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def install(folder: Path) -> Path:
    """The folder of Swift's programs, installed there if they are not."""
    programs = folder / "bin"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True)
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
        if subprocess.run(pip, check=False, stdout=sys.stderr).returncode:
            _fail(f"{REQUIREMENT} cannot be installed: is there a package index?")
        (folder / "ready").touch()
    return programs


def configure(folder: Path, port: int, programs: Path) -> None:
    """Write settings and rings: the proxy at ``port``, the storage servers at the three after it."""
    (folder / "node" / "sda1").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(_SWIFT)
    user = os.environ.get("USER") or subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    common = {"folder": folder, "user": user}
    for place, kind in enumerate(SERVERS, 1):
        settings = _COMMON.format(port=port + place, **common) + _STORAGE.format(kind=kind)
        (folder / f"{kind}-server.conf").write_text(settings)
        builder = folder / f"{kind}.builder"
        builder.unlink(missing_ok=True)
        device = f"r1z1-127.0.0.1:{port + place}/sda1"
        for arguments in (["create", "4", "1", "0"], ["add", device, "1"], ["rebalance"]):
            command = [programs / "swift-ring-builder", builder, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _FILTERS)
    (folder / "proxy-server.conf").write_text(_COMMON.format(port=port, **common) + _PROXY + filters)


def start(folder: Path, programs: Path) -> list[subprocess.Popen]:
    """The four servers, their logs in ``folder``."""
    servers = []
    for kind in (*SERVERS, "proxy"):
        with open(folder / f"{kind}.log", "w") as log:
            command = [programs / f"swift-{kind}-server", folder / f"{kind}-server.conf"]
            servers.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
    return servers


def _wait(endpoint: str, servers: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and all(server.poll() is None for server in servers):
        try:
            urllib.request.urlopen(endpoint, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    _fail("the servers do not start; their logs are in DIR")


def _free_ports() -> int:
    """The first of four ports in a row that nobody listens on."""
    found = next((port for port in range(28100, 32000, 4) if all(map(_is_free, range(port, port + 4)))), None)
    return found or _fail("no four free ports in a row from 28100 on; give --port")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", metavar="DIR", help="data and settings")
    parser.add_argument("--port", type=int, help="of the endpoint; the three after it are used too")
    parser.add_argument("--venv", default="~/.cache/psc-archive/swift", help="where Swift is, or will be")
    return parser.parse_args()


def _fail(said: str) -> NoReturn:
    print(f"s3_server: {said}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
