"""Reading a dataset: committed parts only, and of them only the columns that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

import psc_core
from pipeline.dataset.commit import committed_shards, open_part, part_name, read_markers
from pipeline.dataset.lookup import located, rows_of
from pipeline.dataset.plan import Plan, read_plan
from pipeline.dataset.results import Tally
from pipeline.dataset.schema import OK, dataset_schema, has_conditions, payload_names, scalar_names
from pipeline.errors import CorruptPart, NotADataset
from pipeline.stores.storage import Folder
from psc_core.errors import TierOutOfRange


@dataclass(frozen=True)
class Dataset:
    """A dataset as its markers say it is now. Parts without a marker do not exist for it."""

    folder: Folder
    plan: Plan
    shards: tuple[int, ...]

    @classmethod
    def open(cls, url: str) -> Dataset:
        """Raises :class:`NotADataset`."""
        folder = Folder.at(url)
        plan = read_plan(folder)
        return cls(folder, plan, tuple(committed_shards(folder)))

    @property
    def complete(self) -> bool:
        return len(self.shards) == self.plan.shards

    @property
    def tiers(self) -> int:
        return self.plan.tiers

    @property
    def conditions(self) -> bool:
        """Whether it has columns of prompts and labels."""
        return has_conditions(self.plan.shared)

    @cached_property
    def shared(self) -> psc_core.SharedHeader:
        """What all its streams have in common."""
        return psc_core.SharedHeader.from_json(self.plan.shared)

    @cached_property
    def markers(self) -> list[dict[str, Any]]:
        """One a committed shard, ascending."""
        return read_markers(self.folder, list(self.shards))

    def tally(self) -> Tally:
        """Sums over the markers: no part is opened."""
        tally = Tally(self.plan)
        for marker in self.markers:
            tally.add(marker)
        return tally

    def check_complete(self) -> None:
        """Raise :class:`NotADataset` if shards are missing."""
        if not self.complete:
            raise NotADataset(
                f"{self.folder.url} is not finished: {len(self.shards)} of {self.plan.shards} shards are "
                "committed; finish it with --resume first"
            )

    def check_tier(self, tier: int) -> None:
        """Raise :class:`TierOutOfRange` unless the dataset has that tier."""
        if not 0 <= tier < self.tiers:
            raise TierOutOfRange(f"tier {tier}: {self.folder.url} holds tiers 0 to {self.tiers - 1}")

    def columns(self, tier: int | None = None) -> list[str]:
        """All scalar columns, and the payloads up to ``tier``; none for -1."""
        return scalar_names(self.tiers, self.conditions) + payload_names(self.tiers if tier is None else tier + 1)

    def arrow(self) -> ds.Dataset:
        """As a pyarrow dataset. Raises :class:`CorruptPart` where a committed part is gone."""
        filesystem = pafs.LocalFileSystem() if self.folder.is_local else self.folder.fs
        paths = [self.folder.full(part_name(shard)) for shard in self.shards]
        schema = dataset_schema(self.tiers, conditions=self.conditions)
        try:
            return ds.dataset(paths, schema=schema, filesystem=filesystem, format="parquet")
        except FileNotFoundError as error:
            raise CorruptPart(f"{error} is gone: psc verify says what mends the dataset") from None

    def open_part(self, shard: int) -> pq.ParquetFile:
        """One part's file, read in as few and as small ranges as the columns allow."""
        return open_part(self.folder, shard)

    def batches(self, columns: Sequence[str], *, rows: int = 1024) -> Iterator[pa.RecordBatch]:
        """Record batches of some columns, in the order of ids. Of a part one row group is held at a time."""
        for shard in self.shards:
            with self.open_part(shard) as part:
                for group in range(part.num_row_groups):
                    yield from part.iter_batches(rows, row_groups=[group], columns=list(columns))

    def ids(self) -> Iterator[str]:
        """Of all images with a stream, in order."""
        for batch in self.batches(["image_id", "status"], rows=16_384):
            yield from batch.filter(pc.equal(batch["status"], OK))["image_id"].to_pylist()

    def locate(self, ids: Collection[str]) -> dict[int, list[str]]:
        """``ids`` by shard, from the list of inputs. Raises :class:`UnknownIds` unless all of them have streams."""
        return located(self.folder, self.plan, self.shards, ids)

    def streams(
        self,
        *,
        tier: int | None = None,
        ids: Collection[str] | None = None,
        rows: int = 256,
        checked: bool = False,
    ) -> Iterator[tuple[str, psc_core.Stream | Exception]]:
        """Ids and streams up to ``tier`` of all images, or of ``ids``; the error in place of a damaged
        stream. ``checked``: ``ids`` are those of these shards that have streams.

        Raises:
            TierOutOfRange: no such tier.
            UnknownIds: some of ``ids`` are not in the dataset, or failed there; not if they were ``checked``.
        """
        if tier is not None:
            self.check_tier(tier)
        payloads = payload_names(self.tiers if tier is None else tier + 1)
        columns = ["image_id", "status", "image_header", *payloads]
        if ids is None:
            for batch in self.batches(columns, rows=rows):
                yield from self._read(batch.filter(pc.equal(batch["status"], OK)), payloads)
            return
        held = dict.fromkeys(self.shards, ids) if checked else self.locate(ids)
        for shard, some in held.items():
            for table in rows_of(self.folder, shard, some, columns):
                yield from self._read(table, payloads)

    def _read(self, batch: pa.RecordBatch | pa.Table, payloads: list[str]) -> Iterator[tuple[str, Any]]:
        for row in batch.to_pylist():
            yield row["image_id"], self._stream(row, payloads)

    def _stream(self, row: dict[str, Any], payloads: list[str]) -> psc_core.Stream | Exception:
        tiers = [row[name] for name in payloads if row[name] is not None]
        try:
            return psc_core.Stream.from_parts(self.shared, row["image_header"], tiers)
        except psc_core.PscError as error:
            return error
