"""What a job did: sums over the markers of a dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.plan import Plan
from pipeline.dataset.schema import OK


@dataclass
class Tally:
    """Running sums over committed shards. Bytes are those of streams: image headers and tiers."""

    plan: Plan
    shards: int = 0
    rows: int = 0
    status: Counter[str] = field(default_factory=Counter)
    pixels: int = 0
    bytes: int = 0
    file_bytes: int = 0
    nfe: int = 0
    tiers: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tiers = [{"bytes": 0, "images": 0, "psnr_sum": 0.0, "psnr_images": 0} for _ in range(self.plan.tiers)]

    def add(self, marker: dict[str, Any]) -> None:
        """Add a shard's marker."""
        self.shards += 1
        self.rows += marker["rows"]
        self.status.update(marker["status"])
        for name in ("pixels", "bytes", "file_bytes", "nfe"):
            setattr(self, name, getattr(self, name) + marker[name])
        for k, tier in enumerate(self.tiers):
            for name in tier:
                tier[name] += marker[f"tier_{name}"][k]

    @property
    def ok(self) -> int:
        return self.status[OK]

    @property
    def failed(self) -> dict[str, int]:
        """Failed inputs by error code."""
        return {code: n for code, n in sorted(self.status.items()) if code != OK}

    @property
    def bpp(self) -> float | None:
        """Bits a pixel over all images, each image's own header counted."""
        return 8 * self.bytes / self.pixels if self.pixels else None

    def tier_table(self) -> list[dict[str, Any]]:
        """For each tier: its images and bytes, the rate up to it in bpp, and the mean of its PSNR in dB."""
        table, so_far = [], self.bytes - sum(t["bytes"] for t in self.tiers)
        for k, tier in enumerate(self.tiers):
            so_far += tier["bytes"]
            table.append(
                {
                    "tier": k,
                    "images": int(tier["images"]),
                    "bytes": int(tier["bytes"]),
                    "bpp": 8 * so_far / self.pixels if self.pixels else None,
                    "psnr": tier["psnr_sum"] / tier["psnr_images"] if tier["psnr_images"] else None,
                }
            )
        return table

    def as_dict(self) -> dict[str, Any]:
        return {
            "shards": self.plan.shards,
            "committed": self.shards,
            "items": self.plan.items,
            "left_out": self.plan.left_out,
            "rows": self.rows,
            "ok": self.ok,
            "failed": self.failed,
            "bytes": self.bytes,
            "bpp": self.bpp,
            "nfe": self.nfe,
            "tiers": self.tier_table(),
        }


@dataclass(frozen=True)
class Result:
    """The outcome of a job over a dataset."""

    dataset: str
    tally: Tally
    seconds: float
    interrupted: bool = False
    inherited: bool = False
    """The rows without a stream are those of another dataset: this job itself failed on none."""
    notes: dict[str, Any] = field(default_factory=dict)
    incomplete: int = 0
    """Images whose row stayed as it was, although this job was to change it."""
    made: int = 0
    """Images that this job compressed, extended, truncated or recovered; ``tally`` counts all that there are."""

    @property
    def exit_code(self) -> int:
        """0 all well, 1 some inputs failed, 130 stopped by the user."""
        if self.interrupted:
            return 130
        if self.incomplete:
            return 1
        return 1 if self.tally.failed and not self.inherited else 0

    def as_dict(self) -> dict[str, Any]:
        figures = {
            "dataset": self.dataset,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "made": self.made,
        }
        return figures | self.tally.as_dict() | self.notes
