"""The codecs that code one adapter at a time, by name: from an adapter to the bytes of a form, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap

from adapterbank.catalog.rows import NewMember
from adapterbank.codecs import coder, fixed
from adapterbank.codecs.target import Target
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError
from adapterbank.ways.results import Progress

RD, FIXED = "rd", "fixed"
CODECS = (RD, FIXED)
DEFAULT_EFFORT, MOST_EFFORT = 1, 3

Buffer = bytes | bytearray | memoryview | mmap


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """The bytes of a form, its error measured from them, and the digests of the objects that they were coded against."""

    data: bytes
    error: DeltaError
    references: tuple[str, ...] = ()

    def row(self, codec: str, digest: str) -> NewMember:
        """What the catalog is told of the form whose object is ``digest``."""
        return NewMember(
            object=digest,
            bytes=len(self.data),
            error=self.error.total,
            module_errors=self.error.modules,
            codec=codec,
            references=self.references,
        )


def check_codec(codec: str) -> str:
    """Return ``codec`` if it codes adapters one at a time. Raises UsageError."""
    if codec not in CODECS:
        raise UsageError(f"codec {codec!r}: expected one of {', '.join(CODECS)}")
    return codec


def check_effort(effort: int) -> int:
    """Return ``effort`` if it is one that the codecs know: how often they go over an adapter again. Raises UsageError."""
    if type(effort) is not int or not 0 <= effort <= MOST_EFFORT:
        raise UsageError(f"effort: got {effort!r}, expected 0 to {MOST_EFFORT}")
    return effort


def encode(
    adapter: Adapter,
    target: Target,
    *,
    codec: str = RD,
    effort: int = DEFAULT_EFFORT,
    references: Mapping[str, Buffer] | None = None,
    progress: Progress | None = None,
) -> Coded:
    """Code ``adapter``; ``references`` are objects of others by digest, the most promising first, with those that they need:
    only the codec ``rd`` looks at them.

    Raises UsageError or ErrorBoundError for a target that cannot be reached.
    """
    check_effort(effort)
    if check_codec(codec) == FIXED:
        made = fixed.encode(adapter, target, sweeps=effort, progress=progress)
        return Coded(made.data, made.error)
    found = coder.encode(adapter, target, effort=effort, references=references, progress=progress)
    return Coded(found.data, found.error, found.references)


def decode(
    data: Buffer, *, codec: str = RD, references: Mapping[str, Buffer] | None = None, base_model: str | None = None
) -> Adapter:
    """The adapter in a form: scaling 1, float32, extras verbatim. Raises IntegrityError for damaged bytes."""
    if check_codec(codec) == FIXED:
        return fixed.decode(data, base_model=base_model)
    return coder.decode(data, references=references, base_model=base_model)
