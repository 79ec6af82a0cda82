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


@dataclass(frozen=True)
class Workers:
    """How many are wanted, and what each asks of the cluster; None is left to what the cluster has.

    What is asked for by number is asked for whole: a cluster that scales by need then adds nodes, where shares of
    the nodes that are up would all find room there.
    """

    count: int | None = None
    cpus: float | None = None
    gpus: float | None = None

    @classmethod
    def of(cls, workers: int | Workers | None) -> Workers:
        """A mere number as what it means."""
        return workers if isinstance(workers, Workers) else cls(workers)

    def check(self) -> None:
        """Raise BadRequest for none, or for shares of nothing: before a cluster is started for them."""
        if self.count is not None and self.count < 1:
            raise BadRequest(f"workers {self.count}: expected at least 1")
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if value is not None and not (0 < value < 1 or (value >= 1 and value == int(value))):
                raise BadRequest(f"worker {name} {value:g}: expected a whole number, or a share between 0 and 1")


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


def shares(nodes: Sequence[dict[str, float]], wanted: int | Workers | None) -> tuple[int, Share]:
    """How many workers, and what each gets: by default one a GPU, or else one a CPU as far as memory goes.

    A share is as large as it can be with every worker whole on one node, and never nothing: where no node has a CPU
    (a head that takes no work), a worker asks for one and waits. One torch thread a CPU of a worker: small networks run
    up to ten times slower on threads that contend.

    Raises:
        BadRequest: fewer than 1 worker, or shares of nothing.
    """
    wanted = Workers.of(wanted)
    wanted.check()
    if wanted.cpus is not None or wanted.gpus is not None:
        return _asked(nodes, wanted)
    if not any(node.get("CPU", 0.0) for node in nodes):
        return wanted.count or 1, Share(1.0, 0.0, 1)
    workers = wanted.count
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    # A worker that needs a GPU finds none on the other nodes.
    able = [node for node in nodes if not gpus or node.get("GPU", 0.0)]
    if workers is None:
        workers = int(gpus) if gpus >= 1 else max(1, sum(_workers(node) for node in able))
    each = _largest_share([node.get("CPU", 0.0) for node in able], workers)
    cpu_share = float(int(each)) if each >= 1 else int(1000 * each) / 1000
    # A fraction is one of one device: no worker spans two.
    devices = [1.0] * int(gpus)
    gpu_share = int(1000 * _largest_share(devices, workers)) / 1000
    return workers, Share(cpu_share, gpu_share, max(1, int(each)))


def _asked(nodes: Sequence[dict[str, float]], wanted: Workers) -> tuple[int, Share]:
    """As large as was asked for; as many as were, or as find room now, at least one."""
    cpus, gpus = 1.0 if wanted.cpus is None else float(wanted.cpus), float(wanted.gpus or 0.0)
    room = [
        min(int(node.get(kind, 0.0) / size + 1e-9) for kind, size in (("CPU", cpus), ("GPU", gpus)) if size)
        for node in nodes
    ]
    return wanted.count or max(1, sum(room)), Share(cpus, gpus, max(1, int(cpus)))


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
