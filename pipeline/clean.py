"""Clean: what killed workers and drivers left behind in a dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.dataset.commit import COMMITS
from pipeline.dataset.plan import PLAN, read_plan
from pipeline.errors import BadRequest, NotADataset
from pipeline.stores.storage import Folder

OLDER_THAN = 24.0
_PASSING = re.compile(r"\.[0-9a-f]{8}\.tmp$")


@dataclass(frozen=True)
class Leftover:
    """Something that belongs to no commit. ``upload``: of an unfinished multipart upload."""

    name: str
    bytes: int
    modified: datetime
    upload: str = ""


def clean(dataset: str, *, older_than: float = OLDER_THAN, dry_run: bool = False) -> dict[str, Any]:
    """Remove leftovers that are more than ``older_than`` hours old: files in the making, unused listings,
    unfinished uploads. With ``dry_run``, only name them.

    Nothing that is committed, or that ``--resume`` would adopt, is touched. Age is what tells a leftover from
    the file that a worker is writing now: below an hour, be sure that no job runs on the dataset. 0: all.

    Raises:
        NotADataset: neither a dataset nor the beginning of one is there.
        BadRequest: a negative age.
    """
    if not older_than >= 0:
        raise BadRequest(f"older_than {older_than}: expected a number of hours of at least 0")
    folder = Folder.at(dataset)
    folder.check_reachable()
    if not folder.exists("_psc"):
        raise NotADataset(f"{dataset} is not a PSC dataset: no {PLAN}")
    before = datetime.now(UTC) - timedelta(hours=older_than)
    # The store's clock may be ahead of this one's.
    found = [one for one in leftovers(folder) if not older_than or one.modified <= before]
    if not dry_run:
        for one in found:
            _remove(folder, one)
    return {
        "dataset": dataset,
        "removed": 0 if dry_run else len(found),
        "bytes": sum(one.bytes for one in found),
        "leftovers": [one.name for one in found],
    }


def leftovers(folder: Folder) -> Iterator[Leftover]:
    """Everything in a dataset's folder that belongs to no commit."""
    listing = read_plan(folder).items_file if folder.exists(PLAN) else None
    for path, info in sorted(folder.fs.find(folder.full("_psc"), detail=True).items()):
        name = path.removeprefix(folder.full("")).lstrip("/")
        passing = name.startswith("_psc/spool/") or (name.startswith(COMMITS) and _PASSING.search(name))
        unused = name.startswith("_psc/items-") and name != listing
        if passing or unused:
            yield Leftover(name, int(info.get("size") or 0), _modified(folder, path))
    yield from _uploads(folder)


def _modified(folder: Folder, path: str) -> datetime:
    when = folder.fs.modified(path)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _uploads(folder: Folder) -> Iterator[Leftover]:
    """Multipart uploads under the dataset that were begun and never finished: stored, paid for, and in no
    listing.
    """
    if not hasattr(folder.fs, "call_s3"):
        return
    bucket, _, prefix = folder.path.partition("/")
    found = folder.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/".lstrip("/"))
    for upload in found.get("Uploads") or []:
        name = upload["Key"].removeprefix(prefix).lstrip("/")
        yield Leftover(name, 0, upload["Initiated"], upload["UploadId"])


def _remove(folder: Folder, one: Leftover) -> None:
    if one.upload:
        bucket, _, key = folder.full(one.name).partition("/")
        folder.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=one.upload)
        return
    folder.fs.rm_file(folder.full(one.name))
    parent = os.path.dirname(folder.full(one.name))
    if folder.is_local and "/_psc/spool" in parent and not os.listdir(parent):
        os.rmdir(parent)
