"""Seconds and peak memory of a block, not of what came before."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from jobs.bench.meter import Meter


def test_seconds():
    with Meter() as meter:
        time.sleep(0.05)
    assert 0.05 <= meter.seconds < 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_memory_is_the_blocks_own():
    with Meter() as large:
        held = np.ones(25_000_000)
        del held
    with Meter() as small:
        pass
    assert large.memory_mb - small.memory_mb == pytest.approx(200, abs=40)
