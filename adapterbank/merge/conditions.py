"""What a merge depends on beside its method, adapters and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapterbank.merge.artefacts import Artefact, Coefficients, Statistics
from adapterbank.merge.preparation import Prepare

Absent = Literal["zero", "renormalize", "refuse"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """All of it by default: nothing special.

    ``schedules`` holds, by module, the weights of all adapters where they are not the merge's. A module that an adapter lacks
    counts as a ``zero`` delta; or the others share its weight (``renormalize``); or the merge is refused. ``prepare`` is done
    to the adapters before the method sees them. ``artefacts`` are what the method needs beside adapters.
    """

    schedules: Mapping[str, Sequence[float]] = field(default_factory=dict)
    absent: Absent = "zero"
    prepare: tuple[Prepare, ...] = ()
    artefacts: tuple[Artefact, ...] = ()

    @property
    def statistics(self) -> dict[str, dict[str, Statistics]]:
        """Those among the artefacts by kind and adapter."""
        found: dict[str, dict[str, Statistics]] = {}
        for each in self.artefacts:
            if isinstance(each, Statistics):
                found.setdefault(each.kind, {})[each.adapter] = each
        return found

    @property
    def coefficients(self) -> Coefficients | None:
        """Those among the artefacts, the first if there are several."""
        return next((each for each in self.artefacts if isinstance(each, Coefficients)), None)
