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
    """The merge of one module: ``matrix`` is its ΔW, thin or dense ``[d_out, d_in]``.

    ``errors`` holds ``(squared error, squared norm)`` by name; the engine sums each over the modules and reports the
    relative error of the whole. ``facts`` are numbers of this module, reported as they are. A thin matrix may come with a
    ``metric`` S, ``[d_in, d_in]`` or a diagonal ``[d_in]``, positive definite: it is cut to its rank under ‖D·S^½‖. A dense
    one may come with a thin matrix ``near`` that it resembles; its leading directions are found sooner from there.
    """

    module: str
    matrix: LowRank | Tensor
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    metric: Tensor | None = None
    near: LowRank | None = None


Pieces = Iterator[Piece]
Kind = Literal["linear", "equivariant", "elementwise", "dense", "factors", "coefficients", "statistics"]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table.

    ``merge(inputs, **options)`` yields one :class:`Piece` per module of :class:`~adapterbank.merge.inputs.Inputs`; its
    keyword-only arguments are the method's options. ``laws`` maps a law of :data:`LAWS` to the options at which it holds
    (none: at the defaults); a law that is not there does not hold. ``keeps_rank``: without an explicit rank the pieces'
    own factors are the output and nothing is cut. ``needs`` names what it takes beside adapters and weights: kinds of
    :class:`~adapterbank.merge.artefacts.Statistics`, ``coefficients``, or ``metric``. ``ordered``: a sequential method, to
    which the adapters come in the order given and not in that of their digests.
    """

    name: str
    merge: Callable[..., Pieces]
    kind: Kind
    summary: str
    formula: str
    source: str
    laws: Mapping[str, Mapping[str, Any]]
    keeps_rank: bool = False
    needs: tuple[str, ...] = ()
    ordered: bool = False

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that :attr:`merge` declares."""
        return options_of(self.merge)
