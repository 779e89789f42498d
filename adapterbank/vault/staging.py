"""Files on their way into the vault: temporary ones in ``BANK/staging``, each locked while its writer lives."""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapterbank.disk_errors import storage_errors
from adapterbank.errors import RefusedInputError, UsageError
from adapterbank.locks import try_flock
from adapterbank.vault import durable
from adapterbank.vault.address import digest_of
from adapterbank.vault.mapped import Mapped

_YOUNGEST = 2.0  # seconds; a file younger than this may not have its lock yet


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Litter:
    """A file that a killed process left in ``staging``: its name and its size in bytes."""

    name: str
    size: int


class Staged:
    """A temporary file that may become an object: fill it by ``write``, ``copy_from`` or ``map``, then ``Vault.keep`` it."""

    __slots__ = ("fd", "path", "sealed")

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.sealed = False

    @property
    def size(self) -> int:
        """Length in bytes as the file system tells it."""
        return os.fstat(self.fd).st_size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. Raises StorageError."""
        with storage_errors("write", self.path):
            durable.write(self.fd, data)

    def copy_from(self, source: int | HasFileno, size: int | None = None) -> int:
        """Append the first ``size`` bytes of an open regular file (all by default) and return their number.

        The copy stays in the kernel where it can; the position of ``source`` is not used and not moved.
        Raises StorageError, and RefusedInputError if the source is shorter than ``size`` by now.
        """
        fd = source if isinstance(source, int) else source.fileno()
        with storage_errors("write", self.path):
            expected = os.fstat(fd).st_size if size is None else size
            count = durable.copy(fd, self.fd, expected)
        if count != expected:
            raise RefusedInputError(f"the input changed while it was read: expected {expected} bytes, got {count}")
        return count

    def map(self, size: int) -> mmap.mmap:
        """Make the file ``size`` bytes long (at least 1), all zeros, and return a mapping of it to write into.

        The space is allocated first, so that a full disk is a StorageError here and not a crash later.
        """
        if size < 1:
            raise UsageError(f"cannot map a file of {size} bytes: expected at least 1")
        with storage_errors("reserve space for", self.path):
            durable.reserve(self.fd, size)
            return mmap.mmap(self.fd, size)

    def view(self) -> Mapped:
        """A read-only look at what was staged; the caller closes it."""
        with storage_errors("map", self.path):
            return Mapped(self.fd)

    def digest(self) -> str:
        """SHA-256 of the file as it is now. Runs without the GIL, beside a scan of ``view()`` in another thread."""
        with storage_errors("read", self.path):
            return digest_of(self.fd)

    def seal(self) -> None:
        """Make the bytes durable and the file read-only: the slow part of ``Vault.keep``, done early or beside other work.

        Nothing may be written afterwards. Raises StorageError; the file is lost then.
        """
        if not self.sealed:
            with storage_errors("write", self.path):
                durable.seal(self.fd, self.path)
            self.sealed = True

    def discard(self) -> None:
        """Drop the temporary name and the lock; bytes that were kept live on under their digest."""
        with suppress(OSError):  # what cannot be removed now is litter for the next sweep, and hides no other error
            self.path.unlink(missing_ok=True)
        os.close(self.fd)


@contextmanager
def stage(folder: Path, size: int | None = None) -> Iterator[Staged]:
    """A new staged file, gone when the block ends, whatever happens in it. Raises StorageError.

    It is empty, or with ``size`` that many zero bytes long with its blocks allocated: a full disk is told at once.
    """
    with storage_errors("create a temporary file in", folder):
        staged = Staged(*durable.create(folder))
    try:
        if size:
            with storage_errors("reserve space for", staged.path):
                durable.reserve(staged.fd, size)
        yield staged
    finally:
        staged.discard()


def find_litter(folder: Path, older_than: float) -> Iterator[tuple[Path, Litter]]:
    """Files of ``folder`` last written ``older_than`` seconds ago or earlier that no living process has locked."""
    youngest = time.time() - max(older_than, _YOUNGEST)
    for path in sorted(folder.iterdir()):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # gone by now, or nothing that a vault made
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_mtime <= youngest and try_flock(fd, exclusive=True):
                yield path, Litter(path.name, status.st_size)
        finally:
            os.close(fd)
