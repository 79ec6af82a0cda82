"""Export: images of a dataset as standalone ``.psc`` files."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from pipeline.dataset.reader import Dataset
from pipeline.outputs.target import check_apart, check_free
from pipeline.stores.names import Names
from pipeline.stores.present import Present
from pipeline.stores.storage import Folder


def export(
    dataset: str,
    out: str,
    *,
    ids: Collection[str] | None = None,
    tier: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write ``out``/ID.psc for the images in ``ids``, or for all; up to ``tier``. Counts and errors.

    overwrite: replace ``.psc`` files that are there; progress is called with files done and in all.

    Raises:
        NotADataset, UnknownIds, TierOutOfRange, TargetNotWritable: nothing was written.
        BadRequest: likewise; ``out`` is a dataset, or files are there and ``overwrite`` is not given.
    """
    opened = Dataset.open(dataset)
    if tier is not None:
        opened.check_tier(tier)
    target = Folder.at(out)
    target.check_writable()
    held = None if ids is None else opened.locate(ids)
    names = Names.of(sorted(ids) if ids is not None else opened.ids(), "psc")
    _check_target(opened, target, names, ids, overwrite)
    written = total = 0
    failed: list[dict[str, str]] = []
    total_files = opened.tally().ok if held is None else sum(map(len, held.values()))
    chosen = opened if held is None else replace(opened, shards=tuple(held))
    for image_id, stream in chosen.streams(ids=ids, tier=tier, checked=True):
        progress(written + len(failed), total_files)
        if isinstance(stream, Exception):
            failed.append({"image_id": image_id, "code": getattr(stream, "code", ""), "error": str(stream)})
            continue
        data = stream.to_bytes()
        target.put(names(image_id), data)
        written, total = written + 1, total + len(data)
    progress(written + len(failed), total_files)
    return {"out": out, "written": written, "bytes": total, "failed": failed}


def _check_target(opened: Dataset, target: Folder, names: Names, ids: Collection[str] | None, overwrite: bool) -> None:
    there = Present(target)
    check_apart(opened, target, there, overwrite=overwrite)
    if there and not overwrite:
        taken = (name for name in map(names, opened.ids() if ids is None else sorted(ids)) if name in there)
        check_free(target, taken, "add --overwrite to replace files of these names, or choose another folder")
