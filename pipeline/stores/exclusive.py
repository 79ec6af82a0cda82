"""A finished local file under its final name: put there whole, once, and never in another's place.

A hard link does it wherever there are any. exFAT, SMB and many FUSE file systems have none: there the file is
renamed, by the system's call that refuses to replace; where there is none (macOS, some FUSE), after a look, under a
lock that its holder loses when it ends. Killed at any moment, none of them leaves half a file, or a claim.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
_NO_SUCH_RENAME = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def create_once(local: Path, target: Path) -> bool:
    """Give ``local`` the name ``target``. False, and nothing changed, if that is taken; else ``local`` may be gone.

    Raises OSError, EXDEV if the two are on different file systems.
    """
    with open(local, "rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(local, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename(local, target)
    return True


def _rename(local: Path, target: Path) -> bool:
    try:
        _rename_noreplace(local, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_SUCH_RENAME:
            raise
        with _locked(target.parent):
            if os.path.lexists(target):
                return False
            os.rename(local, target)
    return True


def _rename_noreplace(local: Path, target: Path) -> None:
    """renameat2(2), which Python has no name for. Raises OSError, ENOSYS where the C library has none either."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(local), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(local), None, str(target))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else is in here for that folder, as far as its file system knows locks."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
