"""Numbers as people say them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """1 image, 2 images, 2 canvases."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def clock(seconds: float) -> str:
    """A duration for people: 42s, 3m07s, 5h02m, 3d04h."""
    minutes, sec = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    return f"{hours}h{minute:02d}m" if hours else f"{minutes}m{sec:02d}s" if minutes else f"{sec}s"
