"""What a worker counts while it works, as Ray metrics: in the dashboard, and at Ray's Prometheus endpoint, which puts
``ray_`` before the names.

==========================  =======  =======================================================
psc_images_total            status   inputs that got a row, by its status
psc_source_bytes_total               bytes of the inputs
psc_pixels_total                     pixels of the images that were encoded
psc_stream_bytes_total               bytes of the streams: image headers and tiers
psc_codec_seconds_total              wall clock in the codec
psc_wait_seconds_total               wall clock in which the codec waited for inputs
psc_denoiser_calls_total             network calls times samples
psc_job_inputs              state    a gauge: the job's inputs, `planned` and `committed`
==========================  =======  =======================================================

The counters count work, not results: what a killed worker had done is done, and counted, again. The markers, and the
gauge, sum up results. Images/s, bpp, failures and the time left follow from these (infra/metrics/grafana.json).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import psc_core
from pipeline.codec import Codec
from pipeline.dataset.results import Tally
from pipeline.dataset.schema import OK
from pipeline.request import Request

METRICS = {
    "psc_images_total": "Inputs that got a row, by its status.",
    "psc_source_bytes_total": "Bytes of the inputs.",
    "psc_pixels_total": "Pixels of the images that were encoded.",
    "psc_stream_bytes_total": "Bytes of the streams.",
    "psc_codec_seconds_total": "Wall clock in the codec, in seconds.",
    "psc_wait_seconds_total": "Wall clock in which the codec waited for inputs, in seconds.",
    "psc_denoiser_calls_total": "Network calls times samples.",
}

JOB_INPUTS = "psc_job_inputs"


class Meter:
    """Counts one shard's work, for its marker and for Ray. Its ``encode`` stands in for the codec's."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._counters = _counters()
        self.codec_seconds = 0.0
        self.wait_seconds = 0.0

    def encode(
        self, images: Sequence[np.ndarray], request: Request, prior: Any, **options: Any
    ) -> list[psc_core.Stream]:
        """See :meth:`Codec.encode`."""
        began = time.monotonic()
        try:
            return self._codec.encode(images, request, prior, **options)
        finally:
            spent = time.monotonic() - began
            self.codec_seconds += spent
            self._count("psc_codec_seconds_total", spent)

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches, the time until each comes counted."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            spent = time.monotonic() - began
            self.wait_seconds += spent
            self._count("psc_wait_seconds_total", spent)
            if batch is None:
                return
            yield batch

    def row(self, row: Mapping[str, Any]) -> None:
        """Count a row that was made."""
        self._count("psc_images_total", 1, status=row["status"])
        self._count("psc_source_bytes_total", row.get("source_bytes") or 0)
        if row["status"] == OK:
            self._count("psc_stream_bytes_total", row["bytes"])
            self._count("psc_pixels_total", row["width"] * row["height"])
            self._count("psc_denoiser_calls_total", row["nfe"] or 0)

    def figures(self) -> dict[str, float]:
        """For the marker, in seconds."""
        return {"codec_seconds": round(self.codec_seconds, 3), "wait_seconds": round(self.wait_seconds, 3)}

    def _count(self, name: str, value: float, **tags: str) -> None:
        if value > 0 and self._counters:
            self._counters[name].inc(value, tags=tags)


def tell(tally: Tally) -> None:
    """How far a job is, for Ray's metrics; nothing where Ray does not run."""
    if not _counters():
        return
    if JOB_INPUTS not in _made:
        from ray.util.metrics import Gauge

        _made[JOB_INPUTS] = Gauge(JOB_INPUTS, "Inputs of the job, planned and committed.", tag_keys=("state",))
    for state, count in (("planned", tally.plan.items), ("committed", tally.rows)):
        _made[JOB_INPUTS].set(count, tags={"state": state})


_made: dict[str, Any] = {}


def _counters() -> dict[str, Any]:
    """Ray's counters, one set a process; none where Ray does not run."""
    import sys

    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    if not _made:
        from ray.util.metrics import Counter

        for name, said in METRICS.items():
            _made[name] = Counter(name, said, tag_keys=("status",) if name == "psc_images_total" else ())
    return _made
