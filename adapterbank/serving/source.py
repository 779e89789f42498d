"""Where the adapters of a resident bank come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.slots import SlotLayout


class Source(Protocol):
    """Adapters for buffers of one layout; what it tells does not change: :meth:`refreshed` and :meth:`laid_out` make others."""

    @property
    def layout(self) -> SlotLayout: ...
    @property
    def refs(self) -> tuple[str, ...]: ...
    @property
    def shared_bytes(self) -> int:
        """Of what all adapters share on the device."""

    def version(self, ref: str) -> str:
        """The immutable reference that ``ref`` means. Raises NotFoundError."""

    def load(self, version: str) -> Packed:
        """The adapter in host memory (pinned, if the device is a GPU)."""

    def error(self, version: str) -> float:
        """The stated relative ΔW error of what is served."""

    def lora_config(self, version: str) -> bytes:
        """The ``adapter_config.json`` that was registered."""

    def refreshed(self) -> Source:
        """The same source as the bank is now, for the same layout. Raises IncompatibleError if it is for another model now."""

    def laid_out(self, layout: SlotLayout) -> Source:
        """The same adapters for buffers of another layout. Raises IncompatibleError if one does not fit."""


@dataclass(frozen=True, slots=True)
class Key:
    """A version as one source has it. Sources have numbers: after a refresh the same version may be another form."""

    number: int
    version: str
    source: Source = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.version

    @property
    def mark(self) -> tuple[int, str]:
        """What tells it from others, without holding the source."""
        return self.number, self.version


@dataclass(frozen=True, slots=True)
class Numbered:
    """A source with its number."""

    number: int
    source: Source

    def key(self, ref: str) -> Key:
        """What ``ref`` means. Raises NotFoundError."""
        return Key(self.number, self.source.version(ref), self.source)
