"""The one place where the pipeline calls the codec, so that tests and stand-ins for a device can take its
place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import psc_core
from pipeline.inputs.captioner import Captioner
from pipeline.request import Request
from psc_core.coding.condition import Condition
from psc_core.coding.header import version_for
from psc_core.errors import OutOfMemory, PriorNotFound
from psc_core.fitted import fitted


class Codec:
    """psc_core, as actors use it. A stand-in has the same methods, and pickles."""

    def load(self, request: Request, threads: int | None = None) -> Any:
        """The prior of a request, on this process's device; ``threads``: of torch, if not its own choice."""
        if threads:
            import torch

            torch.set_num_threads(threads)
        try:
            return psc_core.load_prior(request.prior, arithmetic=request.arithmetic)
        except PriorNotFound as error:
            if not request.needs:
                raise
            raise PriorNotFound(f"{request.needs}; {error}. --prior gives its place (psc models lists them)") from None

    def shared(self, request: Request, prior: Any) -> str:
        """The header that all streams of the request share, as JSON.

        Raises BadRequest if the request conditions images on what the prior does not take.
        """
        request.check_conditions(prior)
        return psc_core.SharedHeader(
            profile=fitted(request.get_profile(), getattr(prior, "native_size", None), getattr(prior, "scale", 1)),
            prior_name=prior.name,
            prior_fingerprint=prior.fingerprint,
            arithmetic=prior.arithmetic,
            environment=getattr(prior, "environment", ""),
            seed=request.seed,
            version=version_for(getattr(prior, "condition_kind", None)),
        ).to_json()

    def captioner(self, request: Request) -> Captioner | None:
        """What captions images that have no prompt, if the request asks for one."""
        return None if request.captioner is None else Captioner(request.captioner)

    def at_once(self, prior: Any, images: int, pixels: int) -> tuple[int, int]:
        """How many images, and pixels, to encode together: what is given, or what fills a GPU's free memory."""
        device = getattr(prior, "device", None)
        if device is None or device.type != "cuda" or prior.arithmetic != "exact":
            return images, pixels
        from psc_core.memory import canvas_pixels

        filled = canvas_pixels(device, pixels)
        return max(images, images * filled // pixels), filled

    def encode(
        self,
        images: Sequence[np.ndarray],
        request: Request,
        prior: Any,
        conditions: Sequence[Condition] | None = None,
    ) -> list[psc_core.Stream]:
        """Streams of some images under their prompts or labels, which do not depend on how the images are grouped."""
        profile, target = request.get_profile(), request.target_psnr
        options: dict[str, Any] = {"conditions": conditions, "seed": request.seed, "target_psnr": target}
        streams = psc_core.encode_batch(images, prior, profile, **options)
        if request.max_bpp is None:
            return streams
        return [stream_under(stream, request.max_bpp) for stream in streams]

    def decode(
        self, streams: Sequence[psc_core.Stream], prior: Any, *, tier: int | None, restore: str
    ) -> list[np.ndarray]:
        """Images, uint8 (H, W, C), of some streams."""
        return psc_core.decode_batch(streams, prior, tier=tier, restore=restore)

    def every_tier(self, stream: psc_core.Stream, prior: Any, restore: str = "mean") -> Iterator[np.ndarray]:
        """The image, uint8 (H, W, C), at one tier after the other: replayed once, if memory holds all canvases."""
        done = 0
        try:
            for replayed in psc_core.replay(stream, prior):
                yield replayed.restore(restore)
                done += 1
        except OutOfMemory:
            for tier in range(done, len(stream.tiers)):
                yield from self.decode([stream], prior, tier=tier, restore=restore)


class OneAtATime(Codec):
    """Decodes for several threads, one batch at a time; while one thread is served, others read and write."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self._device = codec, threading.Lock()

    def decode(
        self, streams: Sequence[psc_core.Stream], prior: Any, *, tier: int | None, restore: str
    ) -> list[np.ndarray]:
        """See :meth:`Codec.decode`."""
        with self._device:
            return self._codec.decode(streams, prior, tier=tier, restore=restore)


def stream_under(stream: psc_core.Stream, bpp: float) -> psc_core.Stream:
    """The stream cut at its last cut of at most ``bpp`` bits a pixel.

    As everywhere in a dataset, the rate counts what the image's row stores, and not the header that all
    rows share. If no cut is under the rate, no tier is left.
    """
    budget = max(stream.bytes_at(bpp), len(stream.image_header))
    return stream.truncate(max_bytes=budget + len(stream.shared.to_bytes()))
