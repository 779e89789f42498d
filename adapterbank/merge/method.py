"""A merge method as a value: its function, what it is, and the laws it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from adapterbank.merge.core import LowRank
from adapterbank.merge.options import Option, options_of

LAWS: Mapping[str, str] = {
    "itself": "one adapter with weight 1 gives itself",
    "copies": "copies of an adapter, each with weight 1, give that adapter",
    "order": "the order of the inputs changes no bit",
    "zero_weight": "an adapter with weight 0, of the same modules and ranks, changes nothing",
    "gauge": "re-gauged inputs (B·G, G⁻¹·A) give the same ΔW",
}


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The merge of one module: ``matrix`` is its ΔW, thin or dense ``[d_out, d_in]``, float64.

    ``errors`` holds ``(squared error, squared norm)`` by name; the engine sums each over the modules and reports the
    relative error of the whole.
    """

    module: str
    matrix: LowRank | Tensor
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)


Pieces = Iterator[Piece]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table.

    ``merge(inputs, **options)`` yields one :class:`Piece` per module of :class:`~adapterbank.merge.inputs.Inputs`; its
    keyword-only arguments are the method's options. ``laws`` maps a law of :data:`LAWS` to the options at which it holds
    (none: at the defaults); a law that is not there does not hold. ``keeps_rank``: without an explicit rank the pieces'
    own factors are the output and nothing is cut.
    """

    name: str
    merge: Callable[..., Pieces]
    kind: Literal["linear", "elementwise", "factors"]
    summary: str
    formula: str
    source: str
    laws: Mapping[str, Mapping[str, Any]]
    keeps_rank: bool = False

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that :attr:`merge` declares."""
        return options_of(self.merge)
