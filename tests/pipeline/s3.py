"""A real S3 endpoint for tests, and a proxy before it that counts bytes and injects faults."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.pipeline.fake import FakeCodec

ROOT = Path(__file__).parents[2]
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """A running endpoint; skips the test where none can be installed."""
    with open(folder / "errors", "w") as errors:
        server = subprocess.Popen(
            [sys.executable, ROOT / "infra" / "s3_server.py", folder / "data"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert server.stdout is not None
    line = server.stdout.readline()
    try:
        if not line:
            server.wait()
            pytest.skip(f"no S3 endpoint: {(folder / 'errors').read_text().strip().splitlines()[-1]}")
        yield json.loads(line)
    finally:
        server.terminate()
        server.wait()


@dataclass
class Proxy:
    """Forwards to an endpoint. ``fault(method, path)`` gives the status to answer instead, 0 to cut the
    connection, or None.
    """

    endpoint: str
    fault: Callable[[str, str], int | None] = lambda method, path: None
    faults: int = 0
    fetched: dict[str, int] = field(default_factory=dict)
    """Body bytes of answers to GET, by path."""

    def __post_init__(self) -> None:
        proxy, upstream = self, urlsplit(self.endpoint)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self._body()
                status = proxy.fault(self.command, self.path)
                if status is not None:
                    proxy.faults += 1
                    self._refuse(status)
                    return
                connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "transfer-encoding")}
                connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                if self.command == "GET":
                    path = urlsplit(self.path).path
                    proxy.fetched[path] = proxy.fetched.get(path, 0) + len(data)
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                if answer.getheader("Content-Length") is None:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                # A reader may have what it wanted before the end.
                with suppress(BrokenPipeError):
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

            def _body(self) -> bytes:
                if self.headers.get("Expect", "").lower() == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _refuse(self, status: int) -> None:
                self.close_connection = True
                if status:
                    self.send_response_only(status, "Slow Down")
                    self.send_header("Content-Type", "application/xml")
                    self.send_header("Content-Length", str(len(SLOW_DOWN)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(SLOW_DOWN)

            def handle_expect_100(self) -> bool:
                return True

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def environment(endpoint: str, server: dict[str, str]) -> dict[str, str]:
    """What s3fs needs to know."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": server["key"],
        "AWS_SECRET_ACCESS_KEY": server["secret"],
        "AWS_DEFAULT_REGION": server["region"],
    }


@dataclass(frozen=True)
class S3Codec(FakeCodec):
    """Its process gets ``variables`` before it opens anything: the workers of a cluster that is already running."""

    variables: tuple[tuple[str, str], ...] = ()
    s3_retries: int = 5

    def load(self, request, threads=None):
        from s3fs import S3FileSystem

        os.environ.update(self.variables)
        S3FileSystem.retries = self.s3_retries
        return super().load(request, threads)
