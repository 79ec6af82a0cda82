"""How much is computed at once: what a device's free memory takes, and half of it when that was too much.

Exact results do not depend on their company, so batches may differ between machines and calls. Float results do: their
batches are planned by size alone, and halving one is announced.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from psc_core.errors import OutOfMemory

T = TypeVar("T")
R = TypeVar("R")
SHARE = 0.7
"""Of the free memory that is planned for; other processes and fragments have the rest."""
MOST_PIXELS = 1 << 24
CANVAS_BYTES = 1 << 14
"""A canvas pixel's share of samples, rows and their products outside of the network, with room to spare."""


def free_bytes(device: torch.device) -> int | None:
    """Bytes that a CUDA device can still give, those that torch keeps for itself included; None elsewhere."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def measured(device: torch.device, compute: Callable[[], R]) -> tuple[R, int]:
    """What ``compute`` gives, and the bytes that a CUDA device had to add for it."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = compute()
    return result, torch.cuda.max_memory_allocated(device) - before


def canvas_pixels(device: torch.device, least: int) -> int:
    """Pixels of canvases that are coded together: ``least``, or more where a GPU has the memory."""
    free = free_bytes(device)
    return least if free is None else max(least, min(MOST_PIXELS, int(SHARE / 2 * free / CANVAS_BYTES)))


class Samples:
    """How many samples of each size a network takes in one call."""

    def __init__(self, device: torch.device, pixels: int, *, free_to_grow: bool) -> None:
        """pixels: of the samples of a first call. free_to_grow: whether later ones may be larger."""
        self.device, self.pixels, self.free_to_grow = device, pixels, free_to_grow
        self.counts: dict[tuple[int, int], int] = {}

    def call(self, network: Callable[[Tensor], Tensor], x_NCHW: Tensor) -> Tensor:
        """The network's output for all samples, in as many calls as memory makes necessary."""
        size = (x_NCHW.shape[2], x_NCHW.shape[3])
        known = size in self.counts
        count = self.counts.setdefault(size, max(1, self.pixels // (size[0] * size[1])))
        parts: list[Tensor] = []
        done = 0
        while done < len(x_NCHW):
            part = x_NCHW[done : done + count]
            if not known and self.free_to_grow and free_bytes(self.device) is not None:
                out, used = tried(partial(measured, self.device, partial(network, part))) or (None, 0)
            else:
                out, used = tried(partial(network, part)), 0
            if out is None:
                count = self.counts[size] = halved(len(part), self.free_to_grow, f"a sample of {size[0]}x{size[1]}")
                known = True
                continue
            parts.append(out)
            done += len(part)
            if used:
                count, known = self._grown(size, used / len(part)), True
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _grown(self, size: tuple[int, int], bytes_each: float) -> int:
        free = free_bytes(self.device) or 0
        most = min(int(SHARE * free / bytes_each), MOST_PIXELS // (size[0] * size[1]))
        self.counts[size] = max(1, most)
        return self.counts[size]


def in_halves(items: Sequence[T], compute: Callable[[Sequence[T]], list[R]], prior: Any) -> Iterator[R]:
    """``compute`` of all items together; of halves, where memory runs out."""
    done, count = 0, len(items)
    while done < len(items):
        part = items[done : done + count]
        found = tried(partial(compute, part))
        if found is None:
            count = halved(len(part), prior.arithmetic == "exact", "one canvas")
            continue
        yield from found
        done += len(part)


def tried(compute: Callable[[], R]) -> R | None:
    """What ``compute`` gives, or None if memory ran out; then what it held is let go."""
    try:
        return compute()
    except (RuntimeError, MemoryError, OutOfMemory) as error:
        if not ran_out(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def ran_out(error: BaseException) -> bool:
    """Whether that is what an allocation raises that fails, on a GPU, in torch on a CPU, or in numpy."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemory) or "DefaultCPUAllocator" in str(error)


def fitting(what: str, compute: Callable[[], R]) -> R:
    """What ``compute`` gives. Raises :class:`OutOfMemory` where ``what`` does not fit."""
    found = tried(compute)
    if found is None:
        raise OutOfMemory(f"{what} does not fit into memory")
    return found


def halved(count: int, quietly: bool, one: str) -> int:
    """Half of a batch that did not fit. Raises :class:`OutOfMemory` if it held one item."""
    if count == 1:
        raise OutOfMemory(f"{one} does not fit into the device's memory: give a smaller canvas, or free the device")
    if not quietly:
        warnings.warn(
            f"memory ran out with {count} at once and float arithmetic: going on with {count // 2}. Decode with as "
            "much memory, or use exact arithmetic, whose bytes do not depend on it",
            stacklevel=3,
        )
    return count // 2
