"""The file of a losslessly coded object, checked to be the one that was coded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from adapterbank.codecs.exact.blocks import decoded
from adapterbank.codecs.exact.layout import inspect
from adapterbank.errors import IntegrityError, NotFoundError


def decode(data: Any, *, references: Mapping[str, Any] | None = None) -> bytes:
    """The file. Raises IntegrityError for damaged bytes, NotFoundError if the reference is not among ``references``."""
    return b"".join(rebuilt(data, references))


def rebuilt(data: Any, references: Mapping[str, Any] | None = None, *, expected: str | None = None) -> Iterator[bytes]:
    """The same in parts of at most 1 MiB. They are known to be right only when the last one was taken without an error.

    With ``expected`` the file must have this SHA-256 (hex): an object of another file is an IntegrityError at once.
    """
    info, view, digest = inspect(data), memoryview(data), sha256()
    if expected is not None and info.digest != expected:
        raise IntegrityError(f"a losslessly coded object holds the file {info.digest[:12]}…, expected {expected[:12]}…")
    reference = None if info.reference is None else (references or {}).get(info.reference)
    if info.reference is not None:
        if reference is None:
            raise NotFoundError(f"a losslessly coded object needs the file {info.reference[:12]}… as its reference")
        if len(reference) != info.reference_size:
            raise IntegrityError(f"a reference has {len(reference)} bytes, expected {info.reference_size}")
        reference = memoryview(reference)
    for block in info.blocks:
        part = decoded(view, block, reference)
        digest.update(part)
        yield part
    if digest.hexdigest() != info.digest:
        raise IntegrityError(f"a losslessly coded object decodes to {digest.hexdigest()[:12]}…, expected {info.digest[:12]}…")
