"""The stream container: tiers of checksummed chunks.

A tier is as many chunks as its profile's groups of stages times the canvases, canvas by canvas within a group. A chunk
is ``varint(length)``, a 16-bit checksum, a 16-bit hash of the decoder's state after the chunk, and the payload of that
length, range-coded. The end of every chunk is a cut point once all canvases have begun: plain slicing there leaves a
stream that decodes, since a chunk vouches for itself. Nothing here needs the model, or torch.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from psc_core.coding.condition import Condition
from psc_core.coding.header import ImageHeader, SharedHeader
from psc_core.coding.varint import Reader, varint
from psc_core.errors import CorruptStream, CutStream, TierOutOfRange


class Chunk(NamedTuple):
    """Range-coded payload of some stages of one canvas, and the state hash that its decoder must reach."""

    payload: bytes
    state: int


@dataclass(frozen=True)
class Tier:
    """One tier's bytes, and the offsets at which they may be cut: what is before decodes (the last is their length)."""

    data: bytes
    cuts: tuple[int, ...]
    chunks: tuple[Chunk, ...] = field(repr=False)

    @classmethod
    def build(cls, chunks: Sequence[Chunk], *, canvases: int, index: int) -> Tier:
        """Lay out chunks as tier number ``index`` of an image of so many canvases."""
        out, ends = bytearray(), []
        for place, chunk in enumerate(chunks):
            body = chunk.state.to_bytes(2, "little") + chunk.payload
            out += varint(len(chunk.payload)) + _checksum(index, place, body) + body
            ends.append(len(out))
        return cls(bytes(out), _cuts(ends, canvases, index), tuple(chunks))

    @classmethod
    def read(cls, reader: Reader, *, groups: int, canvases: int, index: int, partial: bool = False) -> Tier:
        """Read one tier; it may end early, after a chunk (or anywhere, with ``partial``)."""
        start = end = reader.position
        chunks: list[Chunk] = []
        ends: list[int] = []
        while len(chunks) < groups * canvases and reader.left:
            try:
                chunks.append(_read_chunk(reader, index, len(chunks)))
            except CutStream:
                if not partial:
                    raise
                reader.position = len(reader.data)
                break
            end = reader.position
            ends.append(end - start)
        return cls(reader.data[start:end], _cuts(ends, canvases, index), tuple(chunks))

    def cut(self, max_bytes: int) -> Tier | None:
        """The longest prefix of at most ``max_bytes`` bytes that decodes, or None if there is none."""
        gone = sum(cut > max_bytes for cut in self.cuts)
        if gone == len(self.cuts):
            return None
        left = len(self.cuts) - gone
        return Tier(self.data[: self.cuts[left - 1]], self.cuts[:left], self.chunks[: len(self.chunks) - gone])


@dataclass(frozen=True)
class EncodeReport:
    """What encoding cost and what it reached; never part of the bytes.

    nfe: denoiser calls times samples; seconds: wall clock; tier_psnr (dB) and tier_ssim (a canvas at a time): per
    tier, of the mean of the encoder's posterior samples; empty if not measured, SSIM also if the image is too small.
    """

    nfe: int
    seconds: float
    tier_psnr: tuple[float, ...] = ()
    tier_ssim: tuple[float, ...] = ()

    def of_tiers(self, count: int) -> EncodeReport:
        """The same, of the first ``count`` tiers; what encoding cost stays what it was."""
        return replace(self, tier_psnr=self.tier_psnr[:count], tier_ssim=self.tier_ssim[:count])


@dataclass(frozen=True)
class Stream:
    """One image's progressive stream."""

    shared: SharedHeader
    image: ImageHeader
    tiers: tuple[Tier, ...]
    report: EncodeReport | None = field(default=None, compare=False, repr=False)

    @property
    def height(self) -> int:
        return self.image.height

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def channels(self) -> int:
        return self.image.channels

    @property
    def condition(self) -> Condition:
        """The prompt or class label that both sides are given, counted in the image header's bytes."""
        return self.image.condition

    @property
    def image_header(self) -> bytes:
        """The few bytes that are this image's own."""
        return self.image.to_bytes()

    @property
    def canvases(self) -> int:
        """How many canvases the image is cut into."""
        from psc_core.canvas import count_canvases

        return count_canvases(self.height, self.width, self.shared.profile.canvas)

    @property
    def header_bytes(self) -> int:
        """Bytes of both headers."""
        return len(self.shared.to_bytes()) + len(self.image_header)

    @property
    def nbytes(self) -> int:
        """Bytes of the standalone form, all headers counted."""
        return self.header_bytes + sum(len(t.data) for t in self.tiers)

    @property
    def bpp(self) -> float:
        """Bits a pixel of the standalone form."""
        return 8 * self.nbytes / (self.height * self.width)

    def to_bytes(self) -> bytes:
        """The standalone ``.psc`` form."""
        return self.shared.to_bytes() + self.image_header + b"".join(t.data for t in self.tiers)

    @classmethod
    def from_bytes(cls, data: bytes, *, partial: bool = False) -> Stream:
        """Read the standalone form; with ``partial``, keep the whole chunks of a file cut anywhere.

        Raises:
            NotAStream, UnknownVersion, CorruptStream, CutStream: see :mod:`psc_core.errors`.
        """
        reader = Reader(bytes(data))
        shared = SharedHeader.read(reader)
        image = ImageHeader.read(reader, shared.version)
        stream = cls(shared, image, ())
        tiers: list[Tier] = []
        while reader.left:
            if len(tiers) == shared.profile.tiers:
                raise CorruptStream(f"{reader.left} bytes after the last tier")
            tiers.append(stream._read_tier(reader, len(tiers), partial=partial))
        return cls(shared, image, _without_empty_end(tiers))

    @classmethod
    def from_parts(cls, shared: SharedHeader, image_header: bytes, tiers: Sequence[bytes]) -> Stream:
        """A dataset's row as a stream. ``tiers`` ascend; the last may have been cut at one of its cuts."""
        image = ImageHeader.from_bytes(image_header, shared.version)
        stream = cls(shared, image, ())
        if len(tiers) > shared.profile.tiers:
            raise TierOutOfRange(f"{len(tiers)} tiers given, but the profile makes {shared.profile.tiers}")
        read = []
        for index, raw in enumerate(tiers):
            reader = Reader(bytes(raw))
            read.append(stream._read_tier(reader, index))
            if reader.left:
                raise CorruptStream(f"{reader.left} bytes too many in tier {index}")
            if not raw:
                raise CutStream(f"tier {index} holds nothing: a tier that was cut away is left out")
            if index + 1 < len(tiers) and len(read[-1].chunks) < shared.profile.groups * stream.canvases:
                raise CutStream(f"tier {index} ends early, though tier {index + 1} follows: only the last may be cut")
        return cls(shared, image, tuple(read))

    def _read_tier(self, reader: Reader, index: int, *, partial: bool = False) -> Tier:
        groups = self.shared.profile.groups
        return Tier.read(reader, groups=groups, canvases=self.canvases, index=index, partial=partial)

    def bytes_at(self, bpp: float) -> int:
        """How many whole bytes ``bpp`` bits a pixel are."""
        return int(min(self.height * self.width * bpp / 8, 1 << 62))

    def truncate(self, *, tier: int | None = None, max_bytes: int | None = None) -> Stream:
        """Keep tiers 0..``tier``, or the longest prefix of at most ``max_bytes`` bytes in standalone form.

        Where nothing but the headers fits the budget, no tier is left. A report keeps the tiers that are whole.

        Raises:
            TierOutOfRange: the stream does not hold that tier, or not even its headers fit the budget.
        """
        if (tier is None) == (max_bytes is None):
            raise ValueError("give exactly one of tier and max_bytes")
        if tier is not None:
            return self._with(self.tiers[: self.check_tier(tier) + 1])
        left = int(max_bytes or 0) - self.header_bytes
        if left < 0:
            raise TierOutOfRange(f"max_bytes={max_bytes}: the headers alone take {self.header_bytes} bytes")
        kept: list[Tier] = []
        for whole in self.tiers:
            cut = whole.cut(left)
            if cut is not None:
                kept.append(cut)
            if cut is None or len(cut.data) < len(whole.data):
                break
            left -= len(whole.data)
        return self._with(tuple(kept))

    def _with(self, tiers: tuple[Tier, ...]) -> Stream:
        """These tiers of it, the last one whole or cut."""
        whole = sum(len(a.data) == len(b.data) for a, b in zip(tiers, self.tiers, strict=False))
        return replace(self, tiers=tiers, report=self.report and self.report.of_tiers(whole))

    def check_tier(self, tier: int | None) -> int:
        """``tier``, or the last one for None. Raises :class:`TierOutOfRange`."""
        if tier is None:
            return len(self.tiers) - 1
        if not 0 <= tier < len(self.tiers):
            holds = f"tiers 0 to {len(self.tiers) - 1}" if self.tiers else "none"
            raise TierOutOfRange(f"tier {tier}: this stream holds {holds}")
        return tier

    def verify(self) -> None:
        """Check every checksum again, without a model. Raises :class:`CorruptStream` or :class:`CutStream`."""
        again = Stream.from_parts(self.shared, self.image_header, [t.data for t in self.tiers])
        if again.tiers != self.tiers:
            raise CorruptStream("the tiers do not read back as they are")


def _read_chunk(reader: Reader, tier: int, place: int) -> Chunk:
    what = f"chunk {place} of tier {tier}"
    length = reader.varint(what)
    if reader.left < 4 + length:
        raise CutStream(
            f"the bytes end inside {what}: {4 + length} expected, {reader.left} left. What comes before is whole: "
            "read it with partial=True"
        )
    checksum = reader.take(2, what)
    body = reader.take(2 + length, what)
    if checksum != _checksum(tier, place, body):
        raise CorruptStream(f"the checksum of {what} does not match: its bytes were changed")
    return Chunk(body[2:], int.from_bytes(body[:2], "little"))


def _cuts(ends: Sequence[int], canvases: int, index: int) -> tuple[int, ...]:
    """Of the ends of a tier's chunks, those before which all canvases have begun."""
    return tuple(ends[canvases - 1 if index == 0 else 0 :])


def _checksum(tier: int, place: int, body: bytes) -> bytes:
    where = b"".join(map(varint, (tier, place, len(body))))
    return crc_hqx(body, crc_hqx(where, 0xFFFF)).to_bytes(2, "little")


def _without_empty_end(tiers: Sequence[Tier]) -> tuple[Tier, ...]:
    kept = list(tiers)
    while kept and not kept[-1].chunks:
        kept.pop()
    return tuple(kept)


__all__ = ["Chunk", "EncodeReport", "ImageHeader", "SharedHeader", "Stream", "Tier"]
