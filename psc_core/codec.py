"""Encode and decode: images to canvases, canvases to batches of one shape, then tiers; one loop for both sides."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from psc_core.archive.canvases import Piece
from psc_core.archive.mosaic import Mosaic
from psc_core.batching import Work, alike, batches, held, joint, multiple, work_of
from psc_core.canvas import Canvas, pad_to_multiple
from psc_core.codecs import Canvases
from psc_core.coding.condition import Condition
from psc_core.coding.container import Chunk, EncodeReport, Stream, Tier
from psc_core.coding.header import ImageHeader, SharedHeader, version_for
from psc_core.decodable import check_cost, check_decodable
from psc_core.fitted import fitted
from psc_core.inputs import checked_conditions, checked_image, checked_quality, checked_rate, checked_seed
from psc_core.memory import fitting, in_halves
from psc_core.metrics import SSIM_SIDE, ssim
from psc_core.priors.base import Prior
from psc_core.profiles import ArchiveProfile, Profile, get_profile
from psc_core.replayed import as_coded, blank, coder, paste, pieces, replaying
from psc_core.sides import EncoderSide


def encode(
    image: np.ndarray,
    prior: Prior,
    profile: str | Profile = "archive",
    *,
    condition: Condition = None,
    seed: int = 0,
    tiers: int | None = None,
    max_bpp: float | None = None,
    target_psnr: float | None = None,
) -> Stream:
    """Compress one image, given a prompt or a class label where the prior takes one; see :func:`encode_batch`."""
    options: dict[str, Any] = {"seed": seed, "tiers": tiers, "max_bpp": max_bpp, "target_psnr": target_psnr}
    return encode_batch([image], prior, profile, conditions=[condition], **options)[0]


def encode_batch(
    images: Sequence[np.ndarray],
    prior: Prior,
    profile: str | Profile = "archive",
    *,
    conditions: Sequence[Condition] | None = None,
    seed: int = 0,
    tiers: int | None = None,
    max_bpp: float | None = None,
    target_psnr: float | None = None,
) -> list[Stream]:
    """Compress images; an image's bytes do not depend on the others.

    Args:
        images: uint8 (H, W), (H, W, 1) or (H, W, 3), any size from 1x1.
        prior: what denoises, see :func:`psc_core.load_prior`.
        profile: a registered name or a :class:`Profile`.
        conditions: a prompt, a class label or None an image; stored in its header, so that the decoder has it too.
        seed: of all noise, 0 to 2^63 - 1; stored in the stream.
        tiers: how many tiers to make, instead of the profile's number.
        max_bpp: cut the stream at its last cut point under this rate (bits a pixel, all headers counted). Where none is
            under it the headers alone are left: ``stream.tiers`` is empty, and there is nothing to decode.
        target_psnr: end the stream with the first tier whose estimate reaches this PSNR (dB), if any does. Restoration
            by the mean, which a decoder runs, is a little better than that estimate.

    Raises:
        InvalidImage, UnknownProfile, InvalidProfile, InvalidCondition: before anything is encoded. OutOfMemory.
    """
    wanted = get_profile(profile, **({} if tiers is None else {"tiers": tiers}))
    chosen = fitted(wanted, prior.native_size, prior.scale)
    seed, rate, quality = checked_seed(seed), checked_rate(max_bpp), checked_quality(target_psnr)
    shared = SharedHeader(
        profile=chosen,
        prior_name=prior.name,
        prior_fingerprint=prior.fingerprint,
        arithmetic=prior.arithmetic,
        environment=prior.environment,
        seed=seed,
        version=version_for(prior.condition_kind),
    )
    arrays = [checked_image(image) for image in images]
    headers = [_header(*pair) for pair in zip(arrays, checked_conditions(conditions, len(arrays)), strict=True)]
    for header in headers:
        prior.check_condition(header.condition)
        check_cost(header, chosen)
    work = [w for i, header in enumerate(headers) for w in work_of(i, header, chosen)]
    made: dict[tuple[int, int], _CodedCanvas] = {}
    for batch in batches(work, prior, chosen):
        coded = in_halves(batch, lambda some: _encode_canvases(some, arrays, prior, chosen, seed), prior)
        made |= {(item.image, item.key): one for item, one in zip(batch, coded, strict=True)}
    streams = []
    for i, header in enumerate(headers):
        own = [made[w.image, w.key] for w in work if w.image == i]
        stream = Stream(
            shared, header, _tiers(own, chosen), _report(own, header, [w.canvas for w in work if w.image == i])
        )
        stream = stream if quality is None else _reaching(stream, quality)
        streams.append(stream if rate is None else _under(stream, rate))
    return streams


def decode(stream: Stream, prior: Prior, *, tier: int | None = None, restore: str = "mean") -> np.ndarray:
    """Decompress one stream; see :func:`decode_batch`."""
    return decode_batch([stream], prior, tier=tier, restore=restore)[0]


def decode_batch(
    streams: Sequence[Stream], prior: Prior, *, tier: int | None = None, restore: str = "mean"
) -> list[np.ndarray]:
    """Decompress streams to uint8 (H, W, C), C as encoded (1 or 3).

    Where the prior's space is not that of pixels, whole images leave it at once: no canvas shows a border by that.

    Args:
        streams: of any sizes and profiles; each comes back as if it were decoded alone.
        prior: the one that encoded them (same fingerprint, same arithmetic).
        tier: decode tiers 0..tier only; None for all that the streams hold.
        restore: "mean" (low distortion) or "perceptual" (natural detail; of the paper's profiles by gradients, in
            float, all else exact where the arithmetic is). DiffC has "flow" (DiffC-F, its "perceptual") and "ancestral"
            (DiffC-A) too.

    Raises:
        WrongPrior, WrongArithmetic, InvalidCondition, StateMismatch, TierOutOfRange, CorruptStream, CutStream,
        OutOfMemory. InvalidProfile: the profile has no such restoration, or its canvases are larger than
        any that is computed.
    """
    pixels = [prior.to_pixels(x) for x in decode_to_model(streams, prior, tier=tier, restore=restore)]
    return [as_coded(*pair) for pair in zip(pixels, streams, strict=True)]


def decode_to_model(
    streams: Sequence[Stream], prior: Prior, *, tier: int | None = None, restore: str = "mean"
) -> list[torch.Tensor]:
    """As :func:`decode_batch`, but without the last step: float32 (C, h, w) in the prior's space, such as latents.

    ``prior.to_pixels`` gives the pixels, of which the right and lower edge may be padding.
    """
    for stream in streams:
        stream.shared.profile.check_restoration(restore)
        check_decodable(stream, prior)
    chosen = [s if tier is None else s.truncate(tier=tier) for s in streams]
    outputs = [fitting(_image(s), partial(blank, s, prior)) for s in chosen]
    for items in alike(chosen):
        shared = chosen[items[0].image].shared
        if joint(chosen[items[0].image]):
            given, profile = prior.conditioned(items[0].condition), cast("ArchiveProfile", shared.profile)
            mosaic = Mosaic(given, profile, _all_replayed(items, chosen, prior, shared), shared.seed)
            outputs[items[0].image] = fitting(_image(chosen[items[0].image]), partial(mosaic.restore, restore))
            continue
        for batch in batches(items, prior, shared.profile):
            part = partial(_decode_canvases, streams=chosen, prior=prior, shared=shared, restore=restore)
            for item, x in zip(batch, in_halves(batch, part, prior), strict=True):
                paste(outputs[item.image], x, item.canvas.shrunk(prior.scale))
    return outputs


class _CodedCanvas(NamedTuple):
    """One canvas's chunks, a list a tier, and what they cost and reached."""

    tiers: list[list[Chunk]]
    nfe: float
    seconds: float
    errors: list[float]
    """Summed squared error of the estimate after each tier."""
    similarities: list[float]
    """Its SSIM, or nothing where the canvas is smaller than SSIM's window."""


def _encode_canvases(
    batch: Sequence[Work], images: Sequence[np.ndarray], prior: Prior, profile: Profile, seed: int
) -> list[_CodedCanvas]:
    started, prior = time.perf_counter(), prior.conditioned(batch[0].condition).counting()
    crops = [_crop(images[w.image], w.canvas) for w in batch]
    truth = torch.stack([prior.to_model(pad_to_multiple(crop, multiple(prior, profile))) for crop in crops])
    canvases = coder(prior, profile, batch, seed)
    side = EncoderSide(truth)
    tiers: list[list[list[Chunk]]] = [[] for _ in batch]
    errors: list[list[float]] = [[] for _ in batch]
    similarities: list[list[float]] = [[] for _ in batch]
    for _ in range(profile.tiers):
        groups: list[list[Chunk]] = [[] for _ in batch]
        for _ in range(profile.groups):
            canvases.run_group(side)
            for own, payload, state in zip(groups, side.finish(), canvases.state_hashes(), strict=True):
                own.append(Chunk(payload, state))
        for b, w in enumerate(batch):
            tiers[b].append(groups[b])
            pixels = prior.to_pixels(canvases.estimate[b])[: w.canvas.height, : w.canvas.width]
            errors[b].append(_squared_error(crops[b], pixels))
            if min(pixels.shape[:2]) >= SSIM_SIDE:
                similarities[b].append(ssim(crops[b], pixels))
    seconds, calls = (time.perf_counter() - started) / len(batch), prior.own_nfe / len(batch)
    return [_CodedCanvas(t, calls, seconds, *m) for t, *m in zip(tiers, errors, similarities, strict=True)]


def _all_replayed(items: Sequence[Work], streams: Sequence[Stream], prior: Prior, shared: SharedHeader) -> list[Piece]:
    """The canvases of one image, replayed."""
    found: dict[int, Piece] = {}
    for count in {held(streams[w.image], w.key) for w in items}:
        same = [w for w in items if held(streams[w.image], w.key) == count]
        for batch in batches(same, prior, shared.profile):
            replayed = in_halves(batch, partial(_replayed, streams=streams, prior=prior, shared=shared), prior)
            found |= {w.key: piece for w, piece in zip(batch, replayed, strict=True)}
    return [found[w.key] for w in items]


def _replayed(batch: Sequence[Work], streams: Sequence[Stream], prior: Prior, shared: SharedHeader) -> list[Piece]:
    return pieces(_last(replaying(batch, streams, prior, shared)), batch)


def _decode_canvases(
    batch: Sequence[Work], streams: Sequence[Stream], prior: Prior, shared: SharedHeader, restore: str
) -> list[torch.Tensor]:
    return list(_last(replaying(batch, streams, prior, shared)).restore(restore))


def _image(stream: Stream) -> str:
    return f"an image of {stream.height}x{stream.width} pixels"


def _last(states: Iterator[Canvases]) -> Canvases:
    return deque(states, maxlen=1).pop()


def _tiers(canvases: Sequence[_CodedCanvas], profile: Profile) -> tuple[Tier, ...]:
    tiers = []
    for number in range(profile.tiers):
        groups = zip(*(canvas.tiers[number] for canvas in canvases), strict=True)
        chunks = [chunk for group in groups for chunk in group]
        tiers.append(Tier.build(chunks, canvases=len(canvases), index=number))
    return tuple(tiers)


def _report(pieces: Sequence[_CodedCanvas], header: ImageHeader, canvases: Sequence[Canvas]) -> EncodeReport:
    values = header.height * header.width * 3
    judged = [(p, c.height * c.width) for p, c in zip(pieces, canvases, strict=True) if p.similarities]
    areas = [area for _, area in judged]
    errors = [sum(tier) / values for tier in zip(*(p.errors for p in pieces), strict=True)]
    return EncodeReport(
        nfe=round(sum(p.nfe for p in pieces)),
        seconds=sum(p.seconds for p in pieces),
        tier_psnr=tuple(10 * math.log10(255**2 / e) if e else math.inf for e in errors),
        tier_ssim=tuple(
            sum(s * area for s, area in zip(tier, areas, strict=True)) / sum(areas)
            for tier in zip(*(p.similarities for p, _ in judged), strict=True)
        ),
    )


def _squared_error(a: np.ndarray, b: np.ndarray) -> float:
    difference = a.astype(np.int64) - b.astype(np.int64)
    return float((difference * difference).sum())


def _under(stream: Stream, max_bpp: float) -> Stream:
    return stream.truncate(max_bytes=max(stream.bytes_at(max_bpp), stream.header_bytes))


def _reaching(stream: Stream, psnr: float) -> Stream:
    reached = stream.report.tier_psnr if stream.report else ()
    enough = [tier for tier, value in enumerate(reached) if value >= psnr]
    return stream.truncate(tier=enough[0]) if enough else stream


def _header(image: np.ndarray, condition: Condition) -> ImageHeader:
    height, width, channels = image.shape
    return ImageHeader(height=height, width=width, channels=channels, condition=condition)


def _crop(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    crop = image[canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width]
    return crop if crop.shape[2] == 3 else np.repeat(crop, 3, axis=2)
