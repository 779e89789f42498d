"""Advisory locks between processes and threads: flock on a file that is opened anew for each acquisition.

A lock file is never removed, so that everybody always locks the same inode. The kernel drops the lock of a killed process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapterbank.disk_errors import storage_errors
from adapterbank.errors import BusyError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02


@contextmanager
def hold(path: Path, *, exclusive: bool, timeout: float, create: bool = True) -> Iterator[None]:
    """Hold the lock file ``path``, shared or exclusively, for the block; wait at most ``timeout`` seconds for it.

    Not re-entrant: an exclusive lock taken inside another lock on the same file waits for itself until the timeout.
    With ``create=False`` (nothing may be written) a missing lock file is a StorageError.
    Raises BusyError when somebody else holds it for longer, StorageError when the file cannot be opened.
    """
    with storage_errors("open the lock file", path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
    owner = os.getpid()
    try:
        _acquire(fd, path, exclusive, timeout)
        yield
    finally:
        # A forked child shares our lock through its copy of fd: the owner must say unlock, a child must only close.
        if os.getpid() == owner:
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def is_held_exclusively(path: Path) -> bool:
    """True if somebody, this process included, holds ``path`` exclusively now; False if the file does not exist."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_flock(fd, exclusive=False)
    finally:
        os.close(fd)


def try_flock(fd: int, *, exclusive: bool) -> bool:
    """Lock an open file without waiting; False if another open file description holds it. Closing ``fd`` releases it."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(fd: int, path: Path, exclusive: bool, timeout: float) -> None:
    """Poll with growing pauses: a blocking flock cannot be given a time limit without signals."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    with storage_errors("lock", path):
        while not try_flock(fd, exclusive=exclusive):
            left = deadline - time.monotonic()
            if left <= 0:
                raise BusyError(
                    f"{path} is locked by another process and was not released within {timeout:g} s",
                    hint="wait until the other adapterbank command has finished, then run this one again",
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
