"""What several rooms' tests share: one small Ray cluster."""

from __future__ import annotations

import os

# Before torch is imported: tiny models on a busy machine are many times slower with several threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# Ray's token auth is on by default and must be the same in every process of a test.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session")
def ray_session():
    """One small local cluster for the whole run: starting one takes seconds."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 1024 * 1024,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()
