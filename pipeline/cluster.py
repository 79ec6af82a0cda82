"""A Ray cluster to run on, and how its processors are shared out among workers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadRequest

IN_FLIGHT = 2
"""Calls that an actor has at a time."""
_WORKER_BYTES = 2 * 1024**3
OBJECT_STORE = 128 * 1024 * 1024


@dataclass(frozen=True)
class Share:
    """What one worker gets. ``threads`` is for torch on a CPU."""

    cpus: float
    gpus: float
    threads: int


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected: to ``address``, or RAY_ADDRESS, or a cluster of this machine that ends with the job.

    An existing connection of this process is used as it is.

    Raises:
        BadRequest: nobody answers at the address.
    """
    # A private archive tells nobody about itself.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise Ray hides the GPUs from workers that ask for none, and says so at length.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address == "local":
            raise
        raise BadRequest(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def resources(ray: Any) -> list[dict[str, float]]:
    """What each living node of the cluster has: CPU, GPU, memory in bytes."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def shares(nodes: Sequence[dict[str, float]], workers: int | None) -> tuple[int, Share]:
    """How many workers, and what each gets: by default one a GPU, or else one a CPU as far as memory goes.

    A share is as large as it can be with every worker whole on one node. One torch thread a CPU of a worker:
    small networks run up to ten times slower on threads that contend.

    Raises:
        BadRequest: ``workers`` is below 1.
    """
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    # A worker that needs a GPU finds none on the other nodes.
    able = [node for node in nodes if not gpus or node.get("GPU", 0.0)]
    if workers is None:
        workers = int(gpus) if gpus >= 1 else max(1, sum(_workers(node) for node in able))
    check_workers(workers)
    each = _largest_share([node.get("CPU", 0.0) for node in able], workers)
    cpu_share = float(int(each)) if each >= 1 else int(1000 * each) / 1000
    # A fraction is one of one device: no worker spans two.
    devices = [1.0] * int(gpus)
    gpu_share = int(1000 * _largest_share(devices, workers)) / 1000
    return workers, Share(cpu_share, gpu_share, max(1, int(each)))


def check_workers(workers: int | None) -> None:
    """Raise BadRequest if there are to be none: before a cluster is started for them."""
    if workers is not None and workers < 1:
        raise BadRequest(f"workers {workers}: expected at least 1")


def _workers(node: dict[str, float]) -> int:
    cpus = node.get("CPU", 0.0)
    return int(min(cpus, node.get("memory", _WORKER_BYTES * cpus) // _WORKER_BYTES))


def _largest_share(sizes: Sequence[float], workers: int) -> float:
    """The largest share of which ``workers`` fit into bins of these sizes; 0 into none."""
    nodes = Counter(size for size in sizes if size > 0)
    shares = sorted({size / k for size in nodes for k in range(1, workers + 1)}, reverse=True)
    return next((s for s in shares if sum(n * int(size / s + 1e-9) for size, n in nodes.items()) >= workers), 0.0)


def starter(ray: Any, kind: type, share: Share, *args: Any, **options: Any) -> Callable[[], Any]:
    """A function that starts one actor of ``kind``.

    Actors neither restart nor retry by themselves: the driver replaces them, because it must count what was
    tried.
    """
    remote = ray.remote(
        num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, max_task_retries=0, max_concurrency=IN_FLIGHT
    )(kind)
    stored = [ray.put(arg) for arg in args]
    return lambda: remote.remote(*stored, **options)
