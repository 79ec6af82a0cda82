"""Where files that nobody commits may go: never into a dataset, never over originals, and over files of an earlier run
only when that is asked for.

A folder of pictures holds a small record of the run that wrote it. By it, a run that was broken off is known to go on,
and pictures are known to be pictures of ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.dataset.differences import differences
from pipeline.dataset.plan import PLAN
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, PlanDiffers
from pipeline.stores.present import Present
from pipeline.stores.storage import Folder, open_fs
from pipeline.stores.urls import full_url

RECORD = ".psc-pictures.json"
_REPLACING = "replacing"
_TOLD = 3


@dataclass(frozen=True)
class Outputs:
    """The folder of a run's pictures.

    record: what the run is asked for, by the names of its options; there: what a resumed run finds done, None for
    others; overwrite: whether it may replace the pictures of an earlier run.
    """

    folder: Folder
    record: dict[str, Any]
    there: Present | None = None
    overwrite: bool = False

    def begin(self) -> None:
        """To be called before the first picture is written."""
        self._put(self.record | {_REPLACING: self.overwrite})

    def finish(self) -> None:
        """To be called when every picture is: none of an earlier run is left among them."""
        if self.overwrite:
            self._put(self.record | {_REPLACING: False})

    def _put(self, said: dict[str, Any]) -> None:
        self.folder.put(RECORD, json.dumps(said, indent=1, sort_keys=True).encode())


def outputs(
    opened: Dataset,
    folder: Folder,
    record: dict[str, Any],
    taken: Callable[[Present], Iterable[str]],
    *,
    resume: bool,
    overwrite: bool,
    on_begin: Callable[[], None],
) -> Outputs:
    """``folder`` for the pictures of a run, of which ``taken`` says which are there.

    on_begin: called when ``resume`` finds nothing to go on with.

    Raises:
        BadRequest: the run would destroy something.
        PlanDiffers: pictures of another run are there; the differing options are named.
    """
    if resume and overwrite:
        raise BadRequest("--resume keeps the pictures that are there, --overwrite replaces them: choose one")
    there = Present(folder)
    check_apart(opened, folder, there, overwrite=overwrite)
    before = _record_of(folder) if there else None
    if resume and before is not None:
        _check_goes_on(folder, before, record)
        return Outputs(folder, record, there)
    if overwrite and before is not None:
        return Outputs(folder, record, overwrite=True)
    if there:
        check_free(folder, taken(there), _way_out(overwrite, before is not None))
    if resume:
        on_begin()
    return Outputs(folder, record)


def check_apart(opened: Dataset, folder: Folder, there: Present, *, overwrite: bool) -> None:
    """Raise BadRequest if ``folder`` is a dataset or in one, or where the images came from."""
    here = _place(folder.full_url)
    if _inside(here, _place(opened.folder.full_url)):
        raise BadRequest(f"{folder.url} is the dataset itself, or in it: choose a folder outside of it")
    check_no_dataset(folder)
    if not there:
        return
    for origin in _origins(opened):
        if here == origin:
            raise BadRequest(f"{folder.url} holds the images that were compressed: choose another folder")
        if overwrite and (_inside(here, origin) or _inside(origin, here)):
            raise BadRequest(
                f"--overwrite: {folder.url} is not apart from {origin}, which holds the images that were compressed: "
                "choose another folder"
            )


def check_no_dataset(folder: Folder) -> None:
    """Raise BadRequest if ``folder`` is a dataset; of a local one, also if it is in one."""
    path = Path(os.path.realpath(folder.path))
    held = any((above / PLAN).exists() for above in (path, *path.parents)) if folder.is_local else folder.exists(PLAN)
    if held:
        raise BadRequest(f"{folder.url} is a dataset, or in one, whose files are its own: choose another folder")


def check_free(folder: Folder, taken: Iterable[str], way_out: str) -> None:
    """Raise BadRequest if there is a file that would be replaced."""
    if names := list(islice(taken, _TOLD + 1)):
        more = " and more" if len(names) > _TOLD else ""
        raise BadRequest(f"{folder.url} holds {', '.join(names[:_TOLD])}{more} already: {way_out}")


def _way_out(overwrite: bool, ours: bool) -> str:
    if overwrite:
        return (
            f"--overwrite replaces pictures of an earlier psc decompress, and these are not known to be (no {RECORD}); "
            "move them, or choose another folder"
        )
    if ours:
        return "--resume goes on with that run, --overwrite replaces its pictures; or choose another folder"
    return "choose another folder, or move them"


def _check_goes_on(folder: Folder, before: dict[str, Any], now: dict[str, Any]) -> None:
    if differing := differences(before, now, now):
        raise PlanDiffers(
            f"{'; '.join(differing)}: give the earlier values to go on in {folder.url}, --overwrite to replace those "
            "pictures, or another folder"
        )
    if before.get(_REPLACING):
        raise BadRequest(
            f"{folder.url}: a run with --overwrite was not finished, so pictures of two runs are there; "
            "repeat it with --overwrite"
        )


def _record_of(folder: Folder) -> dict[str, Any] | None:
    try:
        found = json.loads(folder.read(RECORD))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _origins(opened: Dataset) -> set[str]:
    """Where its images came from, or what it was made of; of that the rows know where the images were."""
    found = {_place(opened.plan.source, pattern=True)}
    if opened.plan.kind == "truncate":
        for shard in opened.shards[:1]:
            with opened.open_part(shard) as part:
                row = next(part.iter_batches(1, columns=["image_id", "source"])).to_pylist()[0]
            path = row["source"].partition("#")[0]
            found.add(_place(path.removesuffix(row["image_id"]) if path.endswith(row["image_id"]) else path))
    return found


def _place(url: str, *, pattern: bool = False) -> str:
    """One name for all names of a folder: links are followed, of a ``pattern`` it is the folder that all matches are
    in.
    """
    try:
        fs, root = open_fs(url)
    # Every file system has its own errors; what cannot be opened here is not where anything is written.
    except Exception:
        return url
    path = root
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    if pattern and any(mark in path for mark in "*?[") and not (local and os.path.exists(path)):
        parts = path.split("/")
        fixed = next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?["))
        path = "/".join(parts[:fixed])
    return full_url(url, fs, root, os.path.realpath(path) if local else path).rstrip("/")


def _inside(place: str, outer: str) -> bool:
    return place == outer or place.startswith(f"{outer}/")
