"""What a worker counts: in the markers, and where Prometheus reads it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.dataset.reader import Dataset
from pipeline.workers.telemetry import JOB_INPUTS, METRICS
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images

ROOT = Path(__file__).parents[3]
SCRAPE = """
import sys, time, urllib.request
import ray
from pipeline.run import compress
from tests.pipeline.fake import FakeCodec, paper
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
compress(sys.argv[1], sys.argv[2], paper(), codec=FakeCodec(seconds=0.3), workers=1)
(node,) = ray.nodes()
url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    lines = [line for line in urllib.request.urlopen(url).read().decode().splitlines() if line.startswith("ray_psc_")]
    if len(lines) == int(sys.argv[3]):
        break
    time.sleep(0.5)
print("\\n".join(lines))
"""


def test_a_marker_says_where_the_time_went(tmp_path):
    make_images(tmp_path / "src", 6)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    for marker in Dataset.open(str(tmp_path / "ds")).markers:
        figures = marker["figures"]
        assert figures.keys() == {"seconds", "attempt", "codec_seconds", "wait_seconds"}
        assert 0 <= figures["codec_seconds"] + figures["wait_seconds"] <= figures["seconds"] + 0.002


@pytest.mark.slow
def test_prometheus_finds_the_counters(tmp_path):
    make_images(tmp_path / "src", 12)
    (tmp_path / "src" / "broken.jpg").write_bytes(b"no")
    command = [sys.executable, "-c", SCRAPE, tmp_path / "src", tmp_path / "ds", str(len(METRICS) + 3)]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=200).stdout
    found = {}
    for line in said.splitlines():
        if line.startswith("ray_psc_"):
            tag = re.search(r'(?:status|state)="(\w+)"', line)
            status = f"-{tag[1]}" if tag else ""
            found[line.split("{")[0].removeprefix("ray_") + status] = float(line.rsplit(" ", 1)[1])
    assert {name.split("-")[0] for name in found} == METRICS.keys() | {JOB_INPUTS}
    assert found[f"{JOB_INPUTS}-planned"] == found[f"{JOB_INPUTS}-committed"] == 13
    assert found["psc_images_total-ok"] == 12
    assert found["psc_images_total-unknown_format"] == 1
    assert found["psc_stream_bytes_total"] == Dataset.open(str(tmp_path / "ds")).tally().bytes
    assert found["psc_pixels_total"] == Dataset.open(str(tmp_path / "ds")).tally().pixels
    assert found["psc_source_bytes_total"] == sum(p.stat().st_size for p in (tmp_path / "src").iterdir())
    assert 12 * 0.3 <= found["psc_codec_seconds_total"] < 30
