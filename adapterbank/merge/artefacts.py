"""What was learned from data or metrics beforehand, as values: statistics of one adapter, coefficients of several.

A merge that uses them stays a pure function: it is given these values, by the digest of their bytes, and needs no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adapterbank import container
from adapterbank.errors import IntegrityError, NotFoundError

FORMAT = 1
STATISTICS, COEFFICIENTS = "merge.statistics", "merge.coefficients"
_VALUES = "values"
_UNITS = "units/"


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """One tensor per module of one adapter, such as the Gram matrix of a module's inputs ``[d_in, d_in]``.

    ``adapter`` is the adapter's content digest, ``kind`` what the tensors are (``gram``, ``fisher`` …). ``modules`` says
    under which key of ``tensors`` a module's lies: modules that see the same inputs share one. ``about`` tells how they were
    made, as plain JSON.
    """

    kind: str
    adapter: str
    tensors: Mapping[str, Tensor]
    modules: Mapping[str, str]
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, module: str) -> Tensor:
        """The tensor of ``module``. Raises NotFoundError if there is none."""
        if module not in self.modules:
            raise NotFoundError(f"the {self.kind} of adapter {self.adapter[:12]} has nothing for module {module!r}")
        return self.tensors[self.modules[module]]

    def to_object(self) -> bytes:
        """Equal statistics give equal bytes."""
        about = {"kind": STATISTICS, "format": FORMAT, "of": self.kind, "adapter": self.adapter}
        return container.write(dict(self.tensors), {**about, "modules": dict(self.modules), "about": dict(self.about)})


@dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """``values [n, L]``: how much of adapter ``names[i]`` (a content digest) module ``modules[l]`` gets, float64.

    ``units`` may hold, by module, a factor for each rank unit of each adapter ``[n, r]``, r the largest of their ranks there.
    ``about`` tells how they were found and how the objective went, as plain JSON.
    """

    names: tuple[str, ...]
    modules: tuple[str, ...]
    values: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, module: str) -> Mapping[str, float]:
        """The coefficient of every adapter by name. Raises NotFoundError if ``module`` is none of these."""
        if module not in self.modules:
            raise NotFoundError(f"the coefficients have nothing for module {module!r}")
        column = self.values[:, self.modules.index(module)].tolist()
        return dict(zip(self.names, column, strict=True))

    def to_object(self) -> bytes:
        """Equal coefficients give equal bytes."""
        tensors = {_VALUES: self.values.double(), **{_UNITS + module: unit.double() for module, unit in self.units.items()}}
        about = {"kind": COEFFICIENTS, "format": FORMAT, "names": list(self.names), "modules": list(self.modules)}
        return container.write(tensors, {**about, "about": dict(self.about)})


Artefact = Statistics | Coefficients


def from_object(data: bytearray | memoryview) -> Artefact:
    """The statistics or coefficients in an object. Raises IntegrityError for anything else, or for a later format."""
    metadata, tensors = container.read(data)
    kind, version = metadata.get("kind"), metadata.get("format")
    if kind not in (STATISTICS, COEFFICIENTS) or version != FORMAT:
        raise IntegrityError(f"object is {kind!r} of format {version!r}, expected {STATISTICS!r} or {COEFFICIENTS!r}")
    try:
        if kind == STATISTICS:
            return Statistics(metadata["of"], metadata["adapter"], tensors, metadata["modules"], metadata["about"])
        values = tensors.pop(_VALUES)
        units = {name.removeprefix(_UNITS): unit for name, unit in tensors.items()}
        return Coefficients(tuple(metadata["names"]), tuple(metadata["modules"]), values, metadata["about"], units)
    except (KeyError, TypeError) as error:
        raise IntegrityError(
            f"{kind} object cannot be read: {error!r} is missing or wrong", hint="adapterbank verify"
        ) from None
