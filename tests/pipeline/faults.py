"""Drivers and clusters as processes of their own, and codecs that end their process at a chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline.fake import FakeCodec

ROOT = Path(__file__).parents[2]

DRIVER = """
import sys
from pipeline.run import compress
from tests.pipeline.fake import FakeCodec, paper
codec = FakeCodec(seconds=float(sys.argv[3]))
options = {"resume": "resume" in sys.argv, "workers": 1 if "alone" in sys.argv else 2}
result = compress(sys.argv[1], sys.argv[2], paper(), codec=codec, on_stop=lambda: print("draining"), **options)
print(result.tally.shards)
raise SystemExit(result.exit_code)
"""

LOSES_A_NODE = """
import sys
from ray.cluster_utils import Cluster
from pipeline.run import compress
from tests.pipeline.fake import FakeCodec, paper
small = {"object_store_memory": 80 * 1024 * 1024}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False} | small)
nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
cluster.wait_for_nodes()

def lose(tally):
    if tally.rows and nodes:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        nodes.clear()
        print("lost a node", flush=True)

result = compress(
    sys.argv[1], sys.argv[2], paper(), codec=FakeCodec(seconds=0.1), workers=2, address=cluster.address, progress=lose
)
print("rows", result.tally.rows)
cluster.shutdown()
raise SystemExit(result.exit_code)
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for_commits(driver: subprocess.Popen, target: Path, count: int, seconds: float = 90) -> None:
    """Until ``count`` shards are committed."""
    deadline = time.monotonic() + seconds
    while len(list(target.glob("_psc/commits/*.json"))) < count:
        assert time.monotonic() < deadline, "the driver commits nothing"
        assert driver.poll() is None, "the driver ended"
        time.sleep(0.02)


@dataclass(frozen=True)
class DiesBeforeMarker(FakeCodec):
    """The first processes that load it, ``deaths`` in all, end between the upload of a part and its marker."""

    place: str = ""
    deaths: int = 2

    def load(self, request, threads=None):
        from pipeline.dataset import commit

        mark = commit._mark

        def die(*args, **kwargs):
            for death in range(self.deaths):
                try:
                    os.close(os.open(f"{self.place}/{death}", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
            return mark(*args, **kwargs)

        commit._mark = die
        return super().load(request, threads)


@dataclass(frozen=True)
class CountsEncodings(FakeCodec):
    """Leaves a file for every image that it begins to encode, named by the pixels' sum."""

    place: str = ""

    def encode(self, images, request, prior):
        for image in images:
            with open(f"{self.place}/{image.shape[1]}x{image.shape[0]}-{int(image.sum())}", "a") as file:
                file.write("x")
        return super().encode(images, request, prior)
