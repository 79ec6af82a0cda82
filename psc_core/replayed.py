"""Replaying a stream: the codec's state after every tier, reached once, from which pictures are restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch

from psc_core.archive.canvases import Piece
from psc_core.archive.mosaic import Mosaic
from psc_core.batching import Work, batches, held, joint, padded, work_of
from psc_core.canvas import Canvas
from psc_core.codecs import CODECS, Canvases, JointCanvases
from psc_core.coding.container import Chunk, Stream
from psc_core.coding.header import SharedHeader
from psc_core.decodable import check_decodable
from psc_core.errors import OutOfMemory, StateGone, StateMismatch
from psc_core.memory import tried
from psc_core.priors.base import Prior
from psc_core.profiles import ArchiveProfile, Profile
from psc_core.sides import DecoderSide


class Replayed(NamedTuple):
    """A stream replayed up to and with tier ``tier``; there until the next tier is asked for."""

    tier: int
    stream: Stream
    prior: Prior
    parts: Sequence[tuple[Sequence[Work], Canvases]]
    """Canvases computed together, and their codec's state."""
    reached: list[int]
    """The tier that the states are at now."""

    def restore(self, how: str = "mean") -> np.ndarray:
        """The picture, uint8 (H, W, C): what :func:`psc_core.decode` gives of the stream cut after this tier.

        Raises:
            InvalidProfile: the profile has no such restoration.
            StateGone: the replay has gone on since.
        """
        if self.reached[0] != self.tier:
            raise StateGone(f"tier {self.tier}: the replay is at tier {self.reached[0]}; restore each before the next")
        shared, prior = self.stream.shared, self.prior
        shared.profile.check_restoration(how)
        if joint(self.stream):
            found = {
                w.key: piece
                for batch, state in self.parts
                for w, piece in zip(batch, pieces(state, batch), strict=True)
            }
            given, profile = prior.conditioned(self.stream.condition), cast("ArchiveProfile", shared.profile)
            whole = Mosaic(given, profile, [found[key] for key in sorted(found)], shared.seed).restore(how)
        else:
            whole = blank(self.stream, prior)
            for batch, state in self.parts:
                for w, x in zip(batch, state.restore(how), strict=True):
                    paste(whole, x, w.canvas.shrunk(prior.scale))
        return as_coded(prior.to_pixels(whole), self.stream)


def replay(stream: Stream, prior: Prior) -> Iterator[Replayed]:
    """Every tier of one stream in turn, for the cost of the last one's replay; pictures are drawn where asked for.

    The states of all canvases are held at once: for images of many, :func:`psc_core.decode` takes less memory.

    Raises:
        WrongPrior, WrongArithmetic, InvalidCondition, StateMismatch, CorruptStream, CutStream.
        OutOfMemory: the states of all canvases do not fit together.
    """
    check_decodable(stream, prior)
    work = work_of(0, stream.image, stream.shared.profile)
    groups: dict[tuple[int, ...], list[Work]] = {}
    for w in work:
        groups.setdefault(held(stream, w.key), []).append(w)
    together = [batch for same in groups.values() for batch in batches(same, prior, stream.shared.profile)]
    running = [replaying(batch, [stream], prior, stream.shared) for batch in together]
    reached = [-1]
    for tier in range(len(stream.tiers)):
        states = tried(lambda: [next(canvases) for canvases in running])
        if states is None:
            raise OutOfMemory(
                f"{stream.canvases} canvases at once: psc_core.decode takes less, one tier after the other"
            )
        reached[0] = tier
        yield Replayed(tier, stream, prior, list(zip(together, states, strict=True)), reached)


def replaying(
    batch: Sequence[Work], streams: Sequence[Stream], prior: Prior, shared: SharedHeader
) -> Iterator[Canvases]:
    """The codec's state of a batch of canvases, after every tier."""
    canvases = coder(prior, shared.profile, batch, shared.seed)
    for number in range(len(streams[batch[0].image].tiers)):
        per_canvas = [streams[w.image].tiers[number].chunks[w.key :: streams[w.image].canvases] for w in batch]
        for chunks in zip(*per_canvas, strict=True):
            canvases.run_group(DecoderSide([chunk.payload for chunk in chunks]))
            _check_states(canvases.state_hashes(), chunks, number)
        yield canvases


def coder(prior: Prior, profile: Profile, batch: Sequence[Work], seed: int) -> Canvases:
    """A codec's state for a batch of canvases, before anything is known."""
    height, width = padded(batch[0].canvas, prior, profile)
    given, shape = prior.conditioned(batch[0].condition), (height // prior.scale, width // prior.scale)
    return CODECS[profile.codec](given, profile, shape, [w.key for w in batch], seed)


def pieces(canvases: Canvases, batch: Sequence[Work]) -> list[Piece]:
    """What is known of every canvas of a batch, of a codec whose canvases are restored together."""
    together = cast("JointCanvases", canvases)
    return [together.piece(b, w.canvas) for b, w in enumerate(batch)]


def blank(stream: Stream, prior: Prior) -> torch.Tensor:
    """Room for a whole image in the prior's space."""
    height, width = (-(-side // prior.scale) for side in (stream.height, stream.width))
    return torch.empty(prior.channels, height, width, dtype=torch.float32, device=prior.device)


def paste(output_CHW: torch.Tensor, part_CHW: torch.Tensor, place: Canvas) -> None:
    """Put a canvas, its padding cut off, into its place."""
    rows, columns = slice(place.top, place.top + place.height), slice(place.left, place.left + place.width)
    output_CHW[:, rows, columns] = part_CHW[:, : place.height, : place.width]


def as_coded(pixels_HWC: np.ndarray, stream: Stream) -> np.ndarray:
    """Cut to the image's size, in as many channels as were encoded."""
    pixels = np.ascontiguousarray(pixels_HWC[: stream.height, : stream.width])
    if stream.channels == 3:
        return pixels
    return ((pixels.astype(np.uint16).sum(axis=2, keepdims=True) + 1) // 3).astype(np.uint8)


def _check_states(states: Sequence[int], chunks: Sequence[Chunk], tier: int) -> None:
    for state, chunk in zip(states, chunks, strict=True):
        if state != chunk.state:
            raise StateMismatch(
                f"tier {tier}: the bytes are whole, but replaying them does not reach the encoder's state. Likely "
                "another version of the weights, or float arithmetic in another environment"
            )
