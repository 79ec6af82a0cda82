"""Which canvases are computed together: those of one shape, condition and history, as many as memory is planned for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psc_core.canvas import Canvas, plan_canvases
from psc_core.codecs import CODECS
from psc_core.coding.condition import Condition
from psc_core.coding.container import Stream
from psc_core.coding.header import ImageHeader
from psc_core.memory import canvas_pixels
from psc_core.priors.base import Prior
from psc_core.profiles import Profile

_PIXELS_AT_ONCE = 1 << 18


class Work(NamedTuple):
    """One canvas: of which image, its number there, where it lies, and what it is conditioned on."""

    image: int
    key: int
    canvas: Canvas
    condition: Condition


def work_of(image: int, header: ImageHeader, profile: Profile) -> list[Work]:
    """All canvases of one image."""
    canvases = plan_canvases(header.height, header.width, profile.canvas)
    return [Work(image, k, canvas, header.condition) for k, canvas in enumerate(canvases)]


def batches(work: Sequence[Work], prior: Prior, profile: Profile) -> Iterator[list[Work]]:
    """Work of equal padded shape and condition, so much at once as memory is planned for; float: one, to be
    reproducible.
    """
    most = canvas_pixels(prior.device, _PIXELS_AT_ONCE)
    alike: dict[tuple, list[Work]] = {}
    for item in work:
        alike.setdefault((padded(item.canvas, prior, profile), item.condition), []).append(item)
    for ((height, width), _), items in alike.items():
        count = 1 if prior.arithmetic == "float" else max(1, most // (height * width))
        for start in range(0, len(items), count):
            yield items[start : start + count]


def alike(streams: Sequence[Stream]) -> list[list[Work]]:
    """Canvases that replay in lockstep: of one profile, seed and number of chunks; or those of one joint image."""
    work: dict[tuple, list[Work]] = {}
    for i, stream in enumerate(streams):
        together = joint(stream)
        for item in work_of(i, stream.image, stream.shared.profile):
            key = (i,) if together else (stream.shared.profile.digest, stream.shared.seed, held(stream, item.key))
            work.setdefault(key, []).append(item)
    return list(work.values())


def joint(stream: Stream) -> bool:
    """Whether an image's canvases are restored together; the other codecs take a canvas at a time."""
    return stream.canvases > 1 and stream.shared.profile.codec == "structured"


def held(stream: Stream, canvas: int) -> tuple[int, ...]:
    """Chunks of one canvas in every tier: a byte budget may end between canvases."""
    return tuple(len(tier.chunks[canvas :: stream.canvases]) for tier in stream.tiers)


def multiple(prior: Prior, profile: Profile) -> int:
    """Canvases are padded to multiples, in pixels, of what both the network and the codec work in."""
    return math.lcm(prior.multiple, prior.scale * CODECS[profile.codec].multiple(profile))


def padded(canvas: Canvas, prior: Prior, profile: Profile) -> tuple[int, int]:
    """Height and width in pixels of a canvas as it is coded."""
    m = multiple(prior, profile)
    return -(-canvas.height // m) * m, -(-canvas.width // m) * m
