"""A codec that costs nothing: real containers around bytes that depend on the pixels alone."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import psc_core
from pipeline.codec import Codec
from pipeline.request import Request
from psc_core.coding.container import Chunk, EncodeReport, ImageHeader, Stream, Tier

PRIOR = SimpleNamespace(name="fake", fingerprint="00" * 16, arithmetic="exact", environment="", nfe=0)
RED_KILLS, RED_FAILS = 251, 252
"""An image whose first pixel is red of this strength ends its process, or raises."""


def paper(**options) -> Request:
    """A request whose profile does not change with the default one."""
    return Request(**{"profile": "paper"} | options)


@dataclass(frozen=True)
class FakeCodec(Codec):
    """``seconds`` are slept for every image, as a device would take them."""

    seconds: float = 0.0
    load_error: Exception | None = None
    fingerprint: str = "00" * 16
    pids: str = ""
    """A folder in which every process that loads the prior leaves its number."""

    kills_width: int = 0
    """Decoding an image of this width ends the process."""

    kills_red: int = RED_KILLS
    """Encoding an image whose first pixel is this red ends the process."""

    native_size: int | None = None
    """Of the prior, which thereby changes the profile; likewise ``scale``."""

    scale: int = 1

    def load(self, request, threads=None):
        if self.load_error is not None:
            raise self.load_error
        if self.pids:
            Path(self.pids, str(os.getpid())).touch()
        of_self = {"fingerprint": self.fingerprint, "native_size": self.native_size, "scale": self.scale}
        return SimpleNamespace(**{**vars(PRIOR), **of_self})

    def encode(self, images, request, prior):
        shared = psc_core.SharedHeader.from_json(self.shared(request, prior))
        return [self._encode(image, shared) for image in images]

    def decode(self, streams, prior, *, tier, restore):
        if any(s.width == self.kills_width for s in streams):
            os._exit(9)
        return [np.full((s.height, s.width, s.channels), len(s.tiers), np.uint8) for s in streams]

    def every_tier(self, stream, prior, restore="mean"):
        for tier in range(len(stream.tiers)):
            yield from self.decode([stream.truncate(tier=tier)], prior, tier=None, restore=restore)

    def _encode(self, image, shared):
        time.sleep(self.seconds)
        if image.shape[2] == 3 and tuple(image[0, 0]) == (self.kills_red, 0, 0):
            os._exit(9)
        if image.shape[2] == 3 and tuple(image[0, 0]) == (RED_FAILS, 0, 0):
            raise RuntimeError("no such pixels")
        return fake_stream(image, shared)


def fake_stream(image: np.ndarray, shared: psc_core.SharedHeader) -> Stream:
    """A stream whose payload is a digest of the pixels: tiers of growing sizes."""
    height, width, channels = image.shape
    header = ImageHeader(height=height, width=width, channels=channels)
    canvases = Stream(shared, header, ()).canvases
    noise = hashlib.shake_256(image.tobytes() + repr(image.shape).encode()).digest(20_000)
    tiers, used = [], 0
    for index in range(shared.profile.tiers):
        chunks = []
        for place in range(shared.profile.groups * canvases):
            size = 3 + noise[place] % (7 * (index + 1))
            chunks.append(Chunk(noise[used : used + size], place + 1))
            used += size
        tiers.append(Tier.build(chunks, canvases=canvases, index=index))
    quality = tuple(20.0 + 2 * k for k in range(len(tiers)))
    return Stream(shared, header, tuple(tiers), EncodeReport(7, 0.1, quality, tuple(q / 100 for q in quality)))
