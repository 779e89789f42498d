"""An adapter as a value: its modules' LoRA factors, and what travels beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adapterbank.lora.layout import ModuleShape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """One module's factors: ΔW = ``scaling`` · ``B`` @ ``A``.

    ``A`` is ``[r, d_in]`` and ``B`` is ``[d_out, r]`` whatever the kind of the module; ``kind`` and ``kernel`` say how a
    PEFT file shapes and names them (see :class:`ModuleShape`).
    """

    A: Tensor
    B: Tensor
    scaling: float = 1.0
    kind: str = "linear"
    kernel: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])

    @property
    def d_in(self) -> int:
        return int(self.A.shape[1])

    @property
    def d_out(self) -> int:
        return int(self.B.shape[0])

    def shape(self, name: str) -> ModuleShape:
        """The shape of these factors as the module ``name``."""
        return ModuleShape(name, self.d_out, self.d_in, self.rank, self.kind, self.kernel)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Adapter:
    """Factors by module name, sorted by name; ``extras`` are tensors of the file that are no LoRA factors, verbatim."""

    modules: Mapping[str, Factors]
    base_model: str | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", dict(sorted(self.modules.items())))

    def __repr__(self) -> str:
        return f"Adapter({len(self.modules)} modules, base_model={self.base_model!r}, {len(self.extras)} extras)"

    @property
    def shapes(self) -> tuple[ModuleShape, ...]:
        return tuple(factors.shape(name) for name, factors in self.modules.items())

    @property
    def rank(self) -> int:
        """The largest rank of a module; 0 without modules."""
        return max((factors.rank for factors in self.modules.values()), default=0)

    @property
    def parameters(self) -> int:
        """Number of LoRA parameters, ``Σ r·(d_out + d_in)``."""
        return sum(shape.parameters for shape in self.shapes)
