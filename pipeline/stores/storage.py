"""A folder anywhere fsspec reaches: list, read, and create a file once and for all.

Creation is exclusive and atomic, so that a reader sees a file whole or not at all and of two writers one
wins: on object stores by ``If-None-Match`` on the put, on local disks by :mod:`pipeline.stores.exclusive`.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import BadRequest, TargetNotWritable
from pipeline.stores.exclusive import create_once
from pipeline.stores.reach import reaching, refusal
from pipeline.stores.urls import check_secrets, full_url

_SPOOL = "_psc/spool"


def open_fs(url: str) -> tuple[Any, str]:
    """The file system of ``url`` and its path there.

    Raises:
        BadRequest: an unknown protocol, a password, or a name that is no text: neither Arrow nor a terminal takes it.
    """
    # s3fs reads ahead by default, which would fetch the payload columns that a projection leaves out.
    options = {"default_cache_type": "none"} if url.startswith(("s3://", "s3a://")) else {}
    try:
        check_secrets(url)
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except (ValueError, ImportError) as error:
        raise BadRequest(f"{url}: {error}; give a path, or a URL like s3://bucket/prefix") from None
    try:
        path.encode()
    except UnicodeEncodeError:
        # Python has a byte \xff that is not UTF-8 as the character \udcff.
        shown = path.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")
        raise BadRequest(f"{shown} is not UTF-8: rename it, or give another name that leads there (ln -s)") from None
    return fs, path.rstrip("/") or "/"


@dataclass(frozen=True)
class Folder:
    """One folder; names are relative, with forward slashes. Pickles as its full URL and ``owner``: files in the
    making are known to be of one job, which its workers share.
    """

    url: str
    fs: Any = field(compare=False, repr=False)
    path: str = field(compare=False, repr=False)
    owner: str = field(default_factory=lambda: uuid.uuid4().hex[:12], compare=False, repr=False)

    @classmethod
    def at(cls, url: str | os.PathLike[str], *owner: str) -> Folder:
        url = os.fspath(url)
        fs, path = open_fs(url)
        return cls(url, fs, path, *owner)

    def __reduce__(self):
        # A worker may run in another directory.
        return Folder.at, (self.full_url, self.owner)

    @property
    def is_local(self) -> bool:
        return "file" in _protocols(self.fs)

    @property
    def full_url(self) -> str:
        """The URL with its protocol, a local path made absolute."""
        return full_url(self.url, self.fs, self.path)

    def full(self, name: str) -> str:
        """The path of ``name`` on the file system."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def exists(self, name: str = "") -> bool:
        return self.fs.exists(self.full(name))

    def read(self, name: str) -> bytes:
        return self.fs.cat_file(self.full(name))

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Read several small files, concurrently where the file system can."""
        # fs.cat would take the marks of patterns in a folder's name for a pattern.
        whole = [None] * len(names)
        found = self.fs.cat_ranges([self.full(n) for n in names], whole, whole, on_error="raise")
        return dict(zip(names, found, strict=True))

    def open(self, name: str, **options: Any) -> Any:
        """Open for reading, at random places."""
        return self.fs.open(self.full(name), "rb", **options)

    def names(self, under: str = "") -> list[str]:
        """Names of the files directly in ``under``, sorted; empty if it is not there."""
        try:
            entries = self.fs.ls(self.full(under), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(e["name"].rsplit("/", 1)[-1] for e in entries if e["type"] == "file")

    def is_empty(self) -> bool:
        """Nothing there, hidden files aside."""
        try:
            entries = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return True
        names = (entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.rstrip("/") != self.path)
        return all(name.startswith(".") for name in names)

    def size(self, name: str) -> int:
        return int(self.fs.info(self.full(name))["size"])

    def check_writable(self) -> None:
        """Raise :class:`TargetNotWritable`, or an error of :mod:`pipeline.stores.reach`, if plainly nothing can be
        created here. Leaves nothing.
        """
        if not self.is_local:
            self.check_reachable()
            return
        place = Path(self.path)
        if place.exists() and not place.is_dir():
            raise TargetNotWritable(f"{self.url} is a file; give a folder")
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise TargetNotWritable(f"{self.url}: {place} is a file; give a path under a folder")
        try:
            # Permissions alone do not tell: the disk may be read-only, or no disk at all.
            os.rmdir(tempfile.mkdtemp(prefix=".psc-", dir=place))
        except OSError as error:
            raise TargetNotWritable(f"{self.url} cannot be written: {place}: {error.strerror}") from None

    def check_reachable(self) -> None:
        """Raise an error of :mod:`pipeline.stores.reach` if the bucket is not there, or may not be listed."""
        with reaching(self.url):
            try:
                self.fs.ls(self.path, detail=False)
            except FileNotFoundError as error:
                # A prefix that is not there yet is well.
                if (refused := refusal(self.url, error)) is not None:
                    raise refused from None

    def create(self, name: str, data: bytes) -> bool:
        """Create a small file. False, and nothing changed, if it is there already."""
        with self.spool() as folder:
            local = Path(folder) / uuid.uuid4().hex
            local.write_bytes(data)
            return self.create_from(name, local)

    def create_from(self, name: str, local: Path) -> bool:
        """Create a file from a finished local one, which may be gone then. False, and nothing changed, if it is
        there already.
        """
        target = self.full(name)
        if self.is_local:
            return self._create_local(Path(target), local)
        try:
            self.fs.put_file(str(local), target, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _is_precondition_failed(error):
                return False
            raise
        return True

    def _create_local(self, target: Path, local: Path) -> bool:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return create_once(local, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        with self.spool() as folder:
            return create_once(Path(shutil.copy(local, folder)), target)

    def replace_from(self, name: str, local: Path) -> None:
        """Put a finished local file in a file's place, whole and in one step. ``local`` may be gone then."""
        if not self.is_local:
            self.fs.put_file(str(local), self.full(name))
            return
        with open(local, "rb") as file:
            os.fsync(file.fileno())
        os.replace(local, self.full(name))

    def put(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing what was there: for outputs that nobody commits."""
        if not self.is_local:
            self.fs.pipe_file(self.full(name), data)
            return
        _replacing(self.full(name), lambda passing: Path(passing).write_bytes(data))

    def put_from(self, name: str, local: Path) -> None:
        """:meth:`put` for a local file, which stays."""
        if not self.is_local:
            self.fs.put_file(str(local), self.full(name))
            return
        _replacing(self.full(name), lambda passing: shutil.copyfile(local, passing))

    @contextmanager
    def spool(self) -> Iterator[str]:
        """A local folder for files in the making, on the target's own disk if it is local; then gone."""
        with self._scratch() as folder:
            yield folder

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        if not self.is_local:
            return tempfile.TemporaryDirectory(prefix="psc-")
        place, prefix = self.full(_SPOOL), self._own_spool
        os.makedirs(place, exist_ok=True)
        try:
            return tempfile.TemporaryDirectory(prefix=prefix, dir=place)
        except FileNotFoundError:
            # Another driver ended, and found it empty.
            os.makedirs(place, exist_ok=True)
            return tempfile.TemporaryDirectory(prefix=prefix, dir=place)

    @property
    def _own_spool(self) -> str:
        return f"psc-{self.owner}-"

    def sweep_spool(self) -> None:
        """Remove what killed workers of this job left in the making; only once everything is committed.

        Another driver may be at work on the rest; what killed drivers left is for :mod:`pipeline.clean`.
        """
        place = Path(self.full(_SPOOL))
        if not self.is_local or not place.is_dir():
            return
        for folder in place.iterdir():
            if folder.name.startswith(self._own_spool):
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            place.rmdir()


def _replacing(target: str, write: Callable[[str], Any]) -> None:
    """Have a file written beside ``target``, and move it there."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    passing = f"{target}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        write(passing)
        os.replace(passing, target)
    finally:
        Path(passing).unlink(missing_ok=True)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _is_precondition_failed(error: OSError) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None) or {}
        if response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412):
            return True
        seen = seen.__cause__
    return "PreconditionFailed" in str(error)
