"""How every member of a collection (a basis of the codec ``rd``) is coded: all that its object says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapterbank import container
from adapterbank.catalog.rows import Basis, Version
from adapterbank.codecs.target import Target
from adapterbank.errors import IntegrityError, UsageError
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.sizes import Size

KIND, FORMAT = "rd.collection", 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What each member reaches, and the effort to get there."""

    target: Target
    effort: int = 1

    @property
    def wanted(self) -> dict[str, float]:
        """What the target says, by its name."""
        return {name: value for name, value in asdict(self.target).items() if value is not None}

    def to_object(self) -> bytes:
        """Equal settings give equal bytes."""
        return container.write({}, {"kind": KIND, "format": FORMAT, "target": self.wanted, "effort": self.effort})

    @classmethod
    def from_object(cls, metadata: Mapping[str, Any]) -> Settings:
        """The settings in an object; IntegrityError if it is none, or of a later format."""
        if metadata.get("kind") != KIND or metadata.get("format") != FORMAT:
            raise IntegrityError(
                f"object is {metadata.get('kind')!r} of format {metadata.get('format')!r}, expected {KIND!r} of format {FORMAT}"
            )
        return cls(Target(**metadata["target"]), int(metadata["effort"]))


def settings_of(rooms: Rooms, basis: Basis) -> Settings:
    """How the members of ``basis`` are coded."""
    return Settings.from_object(container.read_metadata(rooms.vault.read(basis.object)))


def settings_for(size: Size, chosen: Sequence[Version], effort: int) -> Settings:
    """The settings that ``size`` asks for; a budget becomes the bits per parameter that keep all of it within."""
    if size.budget is None:
        return Settings(Target(bits=size.bits, max_error=size.max_error), effort)
    original, parameters = sum(version.bytes for version in chosen), sum(version.parameters for version in chosen)
    own = len(Settings(Target(bits=1 / 3), effort).to_object()) + 16  # as many digits as a number can have
    left = size.budget * original - own
    if left <= 0 or parameters == 0:
        raise UsageError(f"budget: {size.budget:g} of {original} bytes leaves nothing for {len(chosen)} coded adapters")
    return Settings(Target(bits=8 * left / parameters), effort)
