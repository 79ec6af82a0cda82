"""Which files are in a folder already: a listing a directory here, one of all that is there on a store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from pipeline.stores import s3
from pipeline.stores.names import name_hash
from pipeline.stores.storage import Folder

_DIRECTORIES = 64
"""Listings that are kept: names come in an order in which those of one directory are near to each other."""


class Present:
    """``name in present`` for names relative to a folder; as a truth value, whether anything is there.

    Of a store it holds 8 bytes a file, and travels to workers; of a local folder they list what they need.
    """

    def __init__(self, folder: Folder) -> None:
        self._path = folder.path
        self._listed: dict[str, frozenset[str]] = {}
        self._hashes: np.ndarray | None = None
        if not folder.is_local:
            self._hashes = np.sort(np.fromiter(map(name_hash, _names(folder)), np.uint64))

    def __bool__(self) -> bool:
        if self._hashes is not None:
            return len(self._hashes) > 0
        try:
            with os.scandir(self._path) as entries:
                return any(True for _ in entries)
        except FileNotFoundError:
            return False

    def __contains__(self, name: str) -> bool:
        if self._hashes is None:
            directory, _, file = name.rpartition("/")
            return file in self._files(directory)
        wanted = np.uint64(name_hash(name))
        place = int(np.searchsorted(self._hashes, wanted))
        return place < len(self._hashes) and self._hashes[place] == wanted

    def _files(self, directory: str) -> frozenset[str]:
        if directory not in self._listed:
            if len(self._listed) >= _DIRECTORIES:
                self._listed.clear()
            try:
                with os.scandir(f"{self._path}/{directory}") as entries:
                    self._listed[directory] = frozenset(entry.name for entry in entries if not entry.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                self._listed[directory] = frozenset()
        return self._listed[directory]


def _names(folder: Folder) -> Iterator[str]:
    if hasattr(folder.fs, "call_s3"):
        found = (entry["name"] for entry in s3.keys(folder.fs, folder.path))
    else:
        found = iter(folder.fs.find(folder.path))
    return (name.removeprefix(folder.path).lstrip("/") for name in found)
