"""Reading one file of an object: as it is, or compressed; nothing is returned before its SHA-256 is right."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import FileIO
from pathlib import Path

from adapterbank.disk_errors import storage_errors
from adapterbank.errors import IntegrityError, NotFoundError
from adapterbank.vault import compressed
from adapterbank.vault.address import digest_of
from adapterbank.vault.mapped import Mapped

_VERIFY = "run adapterbank verify to see what needs it; registering the original again repairs an object"


def read(path: Path, digest: str) -> bytes:
    """The content. Raises NotFoundError, IntegrityError, StorageError, as all of these do."""
    with _opened(path, digest) as fd:
        if path.suffix == compressed.SUFFIX:
            return _expanded(fd, digest)
        with FileIO(fd, closefd=False) as file:
            data = file.readall()
    _require_digest(sha256(data).hexdigest(), digest)
    return data


def view(path: Path, digest: str) -> Mapped:
    """The content as a buffer: a mapping of the file, or in memory what a compressed file holds."""
    with _opened(path, digest) as fd:
        if path.suffix == compressed.SUFFIX:
            return Mapped.of(_expanded(fd, digest))
        _require_digest(digest_of(fd), digest)
        return Mapped(fd)


def check(path: Path, digest: str) -> None:
    """Read all of it and keep nothing."""
    with _opened(path, digest) as fd:
        if path.suffix == compressed.SUFFIX:
            _expanded(fd, digest)
        else:
            _require_digest(digest_of(fd), digest)


def missing(digest: str) -> NotFoundError:
    """The error to raise for an object that has no file."""
    return NotFoundError(f"object {digest} is not in the vault", hint=_VERIFY)


@contextmanager
def _opened(path: Path, digest: str) -> Iterator[int]:
    """A descriptor of the object, which is a regular file; errors of reading it are told in our own terms."""
    with storage_errors("read", path):
        fd = _open_regular(path, digest)
        try:
            yield fd
        finally:
            os.close(fd)


def _open_regular(path: Path, digest: str) -> int:
    """Open ``path`` unless it is missing, a link, a folder, a pipe or a device."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise IntegrityError(f"object {digest} is not a regular file", hint=_VERIFY)
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise missing(digest) from None


def _expanded(fd: int, digest: str) -> bytes:
    """The content of a compressed file, no more of which is read than there can be."""
    packed = os.pread(fd, compressed.LARGEST, 0)
    content = compressed.expand(packed)
    if content is None:
        raise IntegrityError(f"object {digest} is damaged: its {len(packed)} compressed bytes do not decode", hint=_VERIFY)
    _require_digest(sha256(content).hexdigest(), digest)
    return content


def _require_digest(found: str, expected: str) -> None:
    """Raise IntegrityError unless the digests agree."""
    if found != expected:
        raise IntegrityError(f"object {expected} is damaged: its bytes now have the SHA-256 {found}", hint=_VERIFY)
