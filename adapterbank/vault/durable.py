"""Every call of the vault that writes to the disk. They raise plain OSErrors; nothing here knows about digests.

The order that survives a crash: create, write, seal (mode and fsync), link under the final name, fsync the folder.
A test replaces ``os`` in this module to make the N-th of these calls fail, for every N.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from adapterbank.locks import try_flock

_CHUNK = 1 << 20
_READ_ONLY = 0o444
# Kernels and file systems that cannot copy between two files, or not between these two.
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def make_folder(path: Path) -> None:
    """Make ``path`` and durably enter it in its parent; nothing happens if it is there."""
    try:
        os.mkdir(path)  # noqa: PTH102  (through this module's os, see above)
    except FileExistsError:
        return
    sync_folder(path.parent)


def create(folder: Path) -> tuple[int, Path]:
    """Create a new empty file of a unique name in ``folder``, locked for as long as the descriptor lives."""
    path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try_flock(fd, exclusive=True)  # tells a sweep that somebody is at work here
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return fd, path


def write(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data`` at the file position, however short the single writes are."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(fd, left) :]


def reserve(fd: int, size: int) -> None:
    """Make the file ``size`` bytes long with its blocks allocated: a full disk is an error here, not a SIGBUS in a mapping."""
    try:
        os.posix_fallocate(fd, 0, size)
    except (AttributeError, OSError) as reason:  # macOS has no such call
        if isinstance(reason, OSError) and reason.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        zeros = memoryview(bytes(min(size, _CHUNK)))
        for at in range(0, size, _CHUNK):
            write(fd, zeros[: size - at])
        os.lseek(fd, 0, os.SEEK_SET)


def copy(source: int, target: int, size: int) -> int:
    """Copy the first ``size`` bytes of ``source`` to the file position of ``target``; return how many there were."""
    done = _copy_in_kernel(source, target, size)
    buffer = bytearray(min(size - done, _CHUNK))
    while done < size:
        count = os.preadv(source, [memoryview(buffer)[: size - done]], done)
        if count == 0:
            break
        write(target, memoryview(buffer)[:count])
        done += count
    return done


def _copy_in_kernel(source: int, target: int, size: int) -> int:
    """As much of the copy as ``copy_file_range`` does: all of it within one file system, else perhaps nothing."""
    done = 0
    try:
        while done < size:
            count = os.copy_file_range(source, target, size - done, offset_src=done)
            if count == 0:  # the end of the source, or a file system whose files have no known size
                break
            done += count
    except AttributeError:  # macOS
        return done
    except OSError as reason:
        if reason.errno not in _NO_KERNEL_COPY:
            raise
    return done


def seal(fd: int, path: Path) -> None:
    """Make the file read-only and its bytes durable, or remove its name.

    After a failed fsync the kernel may have dropped the dirty pages, and it reports success the next time: such a file
    is lost, and without a name it cannot become an object.
    """
    try:
        os.fchmod(fd, _READ_ONLY)
        os.fsync(fd)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def link(source: Path, target: Path) -> None:
    """Give the sealed file ``source`` the name ``target``, making the folder; FileExistsError if the name is taken.

    Where there are no hard links it is renamed: that may replace an object written at the same moment, by equal bytes.
    """
    make_folder(target.parent)
    try:
        os.link(source, target)
    except OSError as reason:
        if reason.errno not in _NO_LINKS:
            raise
        replace(source, target)


def replace(source: Path, target: Path) -> None:
    """Rename the sealed file ``source`` over ``target``."""
    os.replace(source, target)  # noqa: PTH105


def sync_folder(path: Path) -> None:
    """Make the names in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
