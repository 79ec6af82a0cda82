"""A real cluster that knows nothing of this project: `ray start --head` in a process of its own."""

from __future__ import annotations

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
