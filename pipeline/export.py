"""Export: images of a dataset as standalone ``.psc`` files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.dataset import Dataset
from pipeline.names import Names
from pipeline.storage import Folder


def export(dataset: str, out: str, *, ids: Collection[str] | None = None, tier: int | None = None) -> dict[str, Any]:
    """Write ``out``/ID.psc for the images in ``ids``, or for all; up to ``tier``. Counts and errors.

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
    failed = []
    for image_id, stream in opened.streams(ids=ids, tier=tier, checked=True):
        if isinstance(stream, Exception):
            failed.append({"image_id": image_id, "code": getattr(stream, "code", ""), "error": str(stream)})
            continue
        data = stream.to_bytes()
        target.put(names(image_id), data)
        written, total = written + 1, total + len(data)
    return {"out": out, "written": written, "bytes": total, "failed": failed}
