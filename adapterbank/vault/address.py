"""Content addresses: the SHA-256 of an object as 64 lower-case hex digits, and the place that follows from it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from adapterbank.errors import UsageError
from adapterbank.vault.compressed import SUFFIX

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 18  # stays in the L2 cache between the read and the hash


def is_digest(text: str) -> bool:
    """True for exactly 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def place(objects: Path, digest: str) -> Path:
    """Where the object lives: ``objects/ab/cdef…``, the first two digits being the folder.

    Raises UsageError unless ``digest`` is one: nothing else ever becomes a path.
    """
    if not is_digest(digest):
        raise UsageError(f"digest {digest!r}: expected 64 lower-case hex digits")
    return objects / digest[:2] / digest[2:]


def places(objects: Path, digest: str) -> tuple[Path, Path]:
    """The two names that the object may have: that of its content, and that of its content compressed."""
    plain = place(objects, digest)
    return plain, plain.with_name(plain.name + SUFFIX)


def digest_of(fd: int) -> str:
    """SHA-256 of the whole open file, from its first byte; the file position is neither used nor moved.

    Read rather than mapped: a failing disk is an OSError here, where a mapping would kill the process (SIGBUS).
    Both the reading and the hashing release the GIL.
    """
    found = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    at = 0
    while count := os.preadv(fd, [buffer], at):
        found.update(view[:count])
        at += count
    return found.hexdigest()
