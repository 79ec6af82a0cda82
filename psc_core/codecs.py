"""The stage loops by the name that a profile's ``codec`` field gives, and what each of them offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from psc_core.archive.canvases import Piece, StructuredCanvases
from psc_core.canvas import Canvas
from psc_core.diffc.canvases import DiffCCanvases
from psc_core.paper.canvases import PublishedCanvases
from psc_core.priors.base import Prior
from psc_core.sides import Side


class Canvases(Protocol):
    """A batch of canvases of one shape, coded in lockstep on either side; each one's bytes are as if it were alone."""

    estimate: Tensor
    """Of the images (B, C, H, W), in the prior's space: what the encoder's report measures."""

    def __init__(self, prior: Prior, profile: Any, shape: tuple[int, int], keys: Sequence[int], seed: int) -> None:
        """profile: of this codec. shape: height and width in the prior's space. keys: the canvases' numbers in their
        images, which with the seed decide their noise.
        """

    @staticmethod
    def multiple(profile: Any) -> int:
        """What both sides of a canvas are padded to multiples of, in the prior's space."""
        ...

    def run_group(self, side: Side) -> None:
        """Exchange the symbols of the next chunk of every canvas; a tier is ``profile.groups`` of them."""

    def state_hashes(self) -> list[int]:
        """16 bits of what is known of every canvas: what an encoder stores, and its decoder must reach."""
        ...

    def restore(self, how: str) -> Tensor:
        """The images (B, C, H, W) from what is known; ``how`` is one of the profile's ``restorations``."""
        ...


class JointCanvases(Canvases, Protocol):
    """Canvases of which one image's are restored together: see :func:`.batching.joint`."""

    def piece(self, index: int, canvas: Canvas) -> Piece:
        """What is known of one canvas of the batch."""
        ...


CODECS: dict[str, type[Canvases]] = {
    "psc": PublishedCanvases,
    "structured": StructuredCanvases,
    "diffc": DiffCCanvases,
}
