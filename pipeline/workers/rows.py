"""Items to rows: read, validate, encode in batches, and give every input exactly one row, in order."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

import psc_core
from pipeline.codec import Codec
from pipeline.dataset.schema import OK
from pipeline.errors import (
    Crashed,
    InputChanged,
    InputError,
    InputForbidden,
    InputMissing,
    InputUnreadable,
    JobFailed,
    TooManyBytes,
    Unfit,
)
from pipeline.inputs.ahead import Ahead, Room
from pipeline.inputs.captioner import Captioner
from pipeline.inputs.images import Facts, Rejected, read_image
from pipeline.request import Request
from pipeline.sources import Item, Source
from pipeline.sources.item import as_text, condition_columns
from pipeline.workers.telemetry import Meter
from psc_core.coding.condition import condition_bits

READ_ATTEMPTS = 4
CRASH_ATTEMPTS = 3
_BACKOFF = 0.25
_AHEAD = 2
"""Batches that are read while one is encoded."""
_AHEAD_BYTES = 64 * 1024 * 1024
_READING, _DECODING = Room(256 * 1024 * 1024), Room(512 * 1024 * 1024)
"""What all readers of a process may hold together: of files, and of pixels as they are decoded."""
BATCH_PIXELS = 1 << 20
_PLAIN = np.tile(np.arange(0, 256, 16, dtype=np.uint8)[:, None, None], (1, 16, 3))
"""A ramp, which any codec that works encodes."""


@dataclass(frozen=True)
class Loaded:
    """An input as far as it came: pixels, or the error that its row will carry."""

    item: Item
    pixels: np.ndarray | None = None
    facts: Facts | None = None
    error: Exception | None = None
    attempts: int = 1


def encode_rows(
    source: Source,
    items: Sequence[Item],
    request: Request,
    codec: Codec,
    prior: Any,
    *,
    shared: str,
    batch: int,
    places: Sequence[int] | None = None,
    skip: Collection[int] = (),
    sha256: Mapping[int, str] = MappingProxyType({}),
    meter: Meter | None = None,
    captioner: Captioner | None = None,
) -> Iterator[dict[str, Any]]:
    """One row an item, in the items' order. Inputs begin to be read at once, rows are made as they are taken.

    places: of the items to take, all by default; skip: of inputs that are known to end the process; sha256:
    what inputs must hash to, where that is known; meter: counts the work; captioner: prompts those that have none.
    """
    places = range(len(items)) if places is None else places

    def load(place: int) -> Loaded:
        item = items[place]
        if place in skip:
            said = f"encoding it ended its process {CRASH_ATTEMPTS} times"
            return Loaded(item, error=Crashed(said), attempts=CRASH_ATTEMPTS)
        loaded = load_input(source, item, request)
        return _same(loaded, sha256[place]) if place in sha256 else loaded

    meter = meter or Meter(codec)
    batch, pixels = codec.at_once(prior, batch, BATCH_PIXELS)
    ahead = Ahead(load, places, count=batch * _AHEAD, size=_AHEAD_BYTES, bytes_of=_bytes_of)
    groups = meter.waiting(_batches(iter(ahead), batch, pixels))
    prompted = ([_prompted(one, captioner) for one in loaded] for loaded in groups)
    return (row for loaded in prompted for row in _encode(loaded, source, request, meter, prior, shared))


def load_input(source: Source, item: Item, request: Request) -> Loaded:
    """Read and validate one input. Transient failures are retried with growing pauses; bad images are not."""
    try:
        if item.size > request.max_bytes:
            raise TooManyBytes(f"{item.size} bytes; the cap is {request.max_bytes}")
        caps = {"max_pixels": request.max_pixels, "max_bytes": request.max_bytes}
        with _READING(item.size):
            pixels, facts = read_image(_read(source, item), size=request.size, room=_DECODING, **caps)
        return Loaded(item, pixels, facts)
    except Rejected as rejected:
        return Loaded(item, facts=rejected.facts, error=rejected.error)
    except InputUnreadable as error:
        return Loaded(item, error=error, attempts=READ_ATTEMPTS)
    except InputError as error:
        return Loaded(item, error=error)


def _read(source: Source, item: Item) -> bytes:
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            data = source.read(item)
            break
        except FileNotFoundError:
            raise InputMissing(f"{source.name(item)} was listed, but is not there any more") from None
        except PermissionError:
            raise InputForbidden(f"no permission to read {source.name(item)}") from None
        except InputError:
            raise
        # Remote file systems raise their own classes for what may pass.
        except Exception as error:
            if attempt == READ_ATTEMPTS:
                raise InputUnreadable(f"{type(error).__name__}: {error}") from None
            time.sleep(_BACKOFF * 2 ** (attempt - 1) * (0.5 + random.random()))
    if 0 <= item.size != len(data):
        raise InputChanged(f"{len(data)} bytes, but {item.size} when it was planned")
    return data


def _same(loaded: Loaded, sha256: str) -> Loaded:
    """``loaded``, or the error that its bytes are others."""
    if loaded.facts is None or loaded.facts.sha256 == sha256:
        return loaded
    said = f"its sha256 is {loaded.facts.sha256}, and was {sha256} when it was first encoded"
    return Loaded(loaded.item, facts=loaded.facts, error=InputChanged(said))


def _bytes_of(loaded: Loaded) -> int:
    return 0 if loaded.pixels is None else loaded.pixels.nbytes


def _batches(loaded: Iterator[Loaded], batch: int, most: int) -> Iterator[list[Loaded]]:
    group: list[Loaded] = []
    pixels = 0
    for one in loaded:
        area = 0 if one.pixels is None else one.pixels.shape[0] * one.pixels.shape[1]
        if group and (len(group) == batch or pixels + area > most):
            yield group
            group, pixels = [], 0
        group.append(one)
        pixels += area
    if group:
        yield group


def _prompted(one: Loaded, captioner: Captioner | None) -> Loaded:
    if captioner is None or one.pixels is None or one.item.condition is not None:
        return one
    said = captioner.caption(one.pixels)
    return replace(one, item=replace(one.item, condition=said, origin=captioner.origin)) if said else one


def _encode(
    group: list[Loaded], source: Source, request: Request, codec: Meter, prior: Any, shared: str
) -> Iterator[dict[str, Any]]:
    readable = [one.pixels for one in group if one.pixels is not None]
    given = [one.item.condition for one in group if one.pixels is not None]
    results = iter(_streams(readable, given, request, codec, prior))
    for one in group:
        result = one.error if one.pixels is None else next(results)
        if isinstance(result, psc_core.Stream):
            if result.shared.to_json() != shared:
                raise JobFailed("the codec wrote another stream header than was planned: do its versions differ?")
            yield ok_row(one, source, result)
        else:
            yield failed_row(one, source, result)


def _streams(
    images: list[np.ndarray], conditions: list[Any], request: Request, codec: Meter, prior: Any
) -> list[psc_core.Stream | Exception]:
    """Streams, or errors in the places of the images that have one; one bad image does not take its batch
    along.
    """
    if not images:
        return []
    options = {"conditions": conditions} if any(given is not None for given in conditions) else {}
    try:
        return list(codec.encode(images, request, prior, **options))
    except Exception as error:
        if len(images) == 1:
            if not isinstance(error, psc_core.PscError):
                _check_fit(error, options, request, codec, prior)
            return [error]
    apart = zip(images, conditions, strict=True)
    return [result for image, given in apart for result in _streams([image], [given], request, codec, prior)]


def _check_fit(error: Exception, options: Mapping[str, Any], request: Request, codec: Meter, prior: Any) -> None:
    """Raise :class:`Unfit` if a plain image fails like the last one: then its error was not that image's.

    A GPU that has failed once fails at everything, at once, and would spoil shards faster than others encode them.
    """
    try:
        codec.encode([_PLAIN], request, prior, **options)
    except psc_core.PscError:
        return
    except Exception:
        raise Unfit(f"encoding fails here whatever the image: {type(error).__name__}: {error}") from None


def ok_row(one: Loaded, source: Source, stream: psc_core.Stream) -> dict[str, Any]:
    """The row of an encoded image. Nothing in it could differ between two runs over the same input."""
    assert one.facts is not None
    header = stream.image_header
    payload = len(header) + sum(len(tier.data) for tier in stream.tiers)
    row = _common(one, source) | {
        "status": OK,
        "width": stream.width,
        "height": stream.height,
        "channels": stream.channels,
        "bytes": payload,
        "bpp": 8 * payload / (stream.width * stream.height),
        "nfe": stream.report.nfe if stream.report else None,
        "image_header": header,
    }
    if stream.condition is not None:
        row["condition_bits"] = condition_bits(stream.condition)
    for k, tier in enumerate(stream.tiers):
        row |= {f"tier_{k}": tier.data, f"t{k}_bytes": len(tier.data), f"t{k}_cuts": list(tier.cuts)}
        if stream.report is not None:
            row[f"t{k}_psnr"] = _at(stream.report.tier_psnr, k)
            row[f"t{k}_ssim"] = _at(stream.report.tier_ssim, k)
    return row


def failed_row(one: Loaded, source: Source, error: Exception | None) -> dict[str, Any]:
    """The row of an input that has no stream: what is known of it, and why."""
    code = error.code if isinstance(error, psc_core.PscError) else "encode_failed"
    said = str(error) if isinstance(error, psc_core.PscError) else f"{type(error).__name__}: {error}"
    return _common(one, source) | {"status": code, "error": said[:500], "attempts": one.attempts}


def _common(one: Loaded, source: Source) -> dict[str, Any]:
    row = {
        "image_id": one.item.id,
        "source": as_text(source.name(one.item)),
        "source_version": one.item.version,
        "source_bytes": max(one.item.size, 0),
        **condition_columns(one.item),
        "condition_origin": one.item.origin or None,
    }
    return row | (one.facts.columns() if one.facts else {})


def _at(values: Sequence[float], k: int) -> float | None:
    return float(values[k]) if k < len(values) else None
