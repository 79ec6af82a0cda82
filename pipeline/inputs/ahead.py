"""Inputs read and decoded ahead of the codec by threads, within bounds on their bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

READERS = 4
T = TypeVar("T")


class Room:
    """So many bytes that threads share. More than there are in all are given to one thread, when it is alone."""

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def __call__(self, wanted: int) -> Iterator[None]:
        """Wait for room, and hold it inside the block."""
        taken = max(0, wanted)
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + taken <= self._size)
            self._used += taken
        try:
            yield
        finally:
            with self._changed:
                self._used -= taken
                self._changed.notify_all()


class Ahead(Generic[T]):
    """Results of ``load`` for all places, in order. Reading begins when this is made.

    At most ``count`` results are waiting, and no further one is begun while those that are finished hold more
    than ``size`` bytes, as ``bytes_of`` tells. Iterate once, to the end or to ``close``.
    """

    def __init__(
        self,
        load: Callable[[int], T],
        places: Sequence[int],
        *,
        count: int,
        size: int,
        bytes_of: Callable[[T], int],
    ) -> None:
        self._load, self._places, self._count = load, iter(places), count
        self._size, self._bytes_of = size, bytes_of
        self._waiting: deque[Future[T]] = deque()
        self._closed, self._lock = False, threading.RLock()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="psc-read")
        self._fill()

    def __iter__(self) -> Iterator[T]:
        try:
            while self._waiting:
                result = self._waiting[0].result()
                with self._lock:
                    self._waiting.popleft()
                    self._fill()
                yield result
        finally:
            self.close()

    def close(self) -> None:
        """Begin no further reading, and wait for what is under way."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _fill(self, _: Any = None) -> None:
        """Begin what the bounds allow: called whenever a result is finished, and whenever one is taken."""
        with self._lock:
            while not self._closed and len(self._waiting) < self._count and self._may_begin():
                place = next(self._places, None)
                if place is None:
                    return
                future = self._pool.submit(self._load, place)
                self._waiting.append(future)
                future.add_done_callback(self._fill)

    def _may_begin(self) -> bool:
        done = [future for future in self._waiting if future.done()]
        held = sum(self._bytes_of(future.result()) for future in done if not _failed(future))
        return len(self._waiting) - len(done) < READERS and (held <= self._size or not self._waiting)


def _failed(future: Future) -> bool:
    return future.cancelled() or future.exception() is not None
