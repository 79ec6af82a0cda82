"""Seconds and peak memory of one call."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any, Protocol


class Cost(Protocol):
    """What a call took."""

    @property
    def seconds(self) -> float: ...

    @property
    def memory_mb(self) -> float: ...


class Meter:
    """``with Meter() as m:`` then ``m.seconds`` (wall clock) and ``m.memory_mb``.

    Memory is the process's largest resident size during the call where the system lets it be reset (Linux), since the
    process began elsewhere; on a GPU the largest that torch had allocated there. It counts all that is held
    meanwhile: interpreter, libraries, weights.
    """

    seconds: float
    memory_mb: float

    def __enter__(self) -> Meter:
        self._cuda = _cuda()
        if self._cuda is not None:
            self._cuda.synchronize()
            self._cuda.reset_peak_memory_stats()
        else:
            _reset_peak()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda is not None:
            self._cuda.synchronize()
        self.seconds = time.perf_counter() - self._started
        self.memory_mb = (_peak() if self._cuda is None else self._cuda.max_memory_allocated()) / 1e6


def _cuda() -> Any:
    """torch.cuda, if torch was imported and there is a device: the codecs of today need neither."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _reset_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def _peak() -> float:
    """Bytes."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * float(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
