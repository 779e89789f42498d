"""How every member of a collection (a basis of the codec ``rd``) is coded: what only such a basis says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from adapterbank.catalog.rows import Basis, Version
from adapterbank.codecs.target import Target
from adapterbank.container import canonical_json
from adapterbank.errors import IntegrityError, UsageError
from adapterbank.ways.sizes import Size


@dataclass(frozen=True, slots=True)
class Settings:
    """What each member reaches, and the effort to get there."""

    target: Target
    effort: int = 1

    @property
    def wanted(self) -> dict[str, float]:
        """What the target says, by its name."""
        return {name: value for name, value in asdict(self.target).items() if value is not None}

    def text(self) -> str:
        """The settings as the row of a basis keeps them: equal ones give equal text."""
        return canonical_json({**self.wanted, "effort": self.effort})


def settings_of(basis: Basis) -> Settings:
    """How the members of ``basis`` are coded. Raises IntegrityError if its row does not say it."""
    try:
        known = json.loads(basis.settings or "")
        effort = int(known.pop("effort"))
        return Settings(Target(**known), effort)
    except (ValueError, KeyError, TypeError, AttributeError, UsageError):
        raise IntegrityError(f"{basis.ref} does not say how its members are coded", hint="adapterbank verify") from None


def settings_for(size: Size, chosen: Sequence[Version], effort: int) -> Settings:
    """The settings that ``size`` asks for; a budget becomes the bits per parameter that keep all of it within."""
    if size.budget is None:
        return Settings(Target(bits=size.bits, max_error=size.max_error), effort)
    original, parameters = sum(version.bytes for version in chosen), sum(version.parameters for version in chosen)
    if parameters == 0:
        raise UsageError(f"budget: {size.budget:g} of {original} bytes leaves nothing for {len(chosen)} coded adapters")
    return Settings(Target(bits=8 * size.budget * original / parameters), effort)
