"""Ctrl-C that drains: the first asks to finish what is running, the second stops at once.

A KeyboardInterrupt from here says in words what is left.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def drain_on_interrupt(on_stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came, as a function; ``on_stop`` is called when it first does.

    Outside the main thread, where Python has no signals, the answer stays no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt("at once; what is finished stays")
        asked.set()
        on_stop()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def before_writing() -> Iterator[Callable[[], None]]:
    """Ctrl-C is told as one that found nothing written, until the function that this gives is called."""
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True

    try:
        yield begin
    except KeyboardInterrupt as error:
        if begun:
            raise
        raise KeyboardInterrupt("nothing was begun, nothing is written") from error
