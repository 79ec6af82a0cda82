"""Export: images of a dataset as standalone ``.psc`` files."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pipeline.dataset import Dataset
from pipeline.names import Names
from pipeline.storage import Folder


def export(
    dataset: str,
    out: str,
    *,
    ids: Collection[str] | None = None,
    tier: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write ``out``/ID.psc for the images in ``ids``, or for all; up to ``tier``. Counts and errors.

    progress is called with files done and in all.

    Raises:
        NotADataset, UnknownIds, TierOutOfRange, TargetNotWritable: nothing was written.
    """
    opened = Dataset.open(dataset)
    target = Folder.at(out)
    target.check_writable()
    if ids is not None:
        opened.check_ids(ids)
    names = Names.of(sorted(ids) if ids is not None else opened.ids(), "psc")
    written = total = 0
    failed: list[dict[str, str]] = []
    total_files = opened.tally().ok if ids is None else len(ids)
    for image_id, stream in opened.streams(ids=ids, tier=tier, checked=True):
        progress(written + len(failed), total_files)
        if isinstance(stream, Exception):
            failed.append({"image_id": image_id, "code": getattr(stream, "code", ""), "error": str(stream)})
            continue
        data = stream.to_bytes()
        target.put(names(image_id), data)
        written, total = written + 1, total + len(data)
    progress(written + len(failed), total_files)
    return {"out": out, "written": written, "bytes": total, "failed": failed}
