"""Merges by learned coefficients: one per adapter and module, found by a calibration beforehand. Five methods, one sum.

``M_l = Σ_i w_i c_il ΔW_i``, with unit masks ``Σ_i w_i c_il·s_i·B_i diag(m_il) A_i``: exact, of rank Σ r_i, and linear. What
tells the methods apart is how c is found, which is said where that is done (``adapterbank.calibration``); here they take the
stored coefficients and no data. The weights w (1 by default) multiply what was learned. Coefficients for more adapters than
are merged are left out, so that a merge can be made again without one of its adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.stack import Stack

_LAWS = ("itself", "order", "zero_weight", "gauge")


def weighted_sum(inputs: Inputs, method: str) -> Pieces:
    """The merge of every module by the coefficients among the artefacts.

    Raises UsageError without coefficients, for those of another method, or for an adapter or module that they do not cover;
    IncompatibleError for unit masks of other ranks.
    """
    coefficients = _needed(inputs, method)
    for stack in inputs:
        yield Piece(stack.module, _sum(stack, coefficients))


def _needed(inputs: Inputs, method: str) -> Coefficients:
    found = inputs.coefficients
    hint = f"adapterbank calibrate {method} REF… --with FILE.py:FUNCTION"
    if found is None:
        raise UsageError(f"{method} needs coefficients, got none", hint=hint)
    made_by = found.about.get("method", method)
    if made_by != method:
        raise UsageError(f"{method}: got coefficients of {made_by}", hint=f"merge them by {made_by}, or {hint}")
    lacking = sorted({name[:12] for name in inputs.names if name not in found.names})
    if lacking:
        raise UsageError(f"{method}: the coefficients have none for adapter {', '.join(lacking)}", hint=hint)
    missing = sorted(inputs.shapes.keys() - set(found.modules))
    if missing:
        raise UsageError(
            f"{method}: the coefficients have none for {len(missing)} modules, among them {missing[0]!r}", hint=hint
        )
    if found.units and inputs.conditions.prepare:
        raise UsageError(f"{method}: masks belong to the factors as they are, which preparations change", hint="leave them out")
    return found


def _sum(stack: Stack, coefficients: Coefficients) -> LowRank:
    column = coefficients.of(stack.module)
    factors = [weight * column[name] for name, weight in zip(stack.names, stack.weights, strict=True)]
    merged = stack.combine(factors)
    table = coefficients.units.get(stack.module)
    if table is None:
        return merged
    rows = [_row(stack, index, table[coefficients.names.index(name)]) for index, name in enumerate(stack.names)]
    return LowRank(merged.left * torch.cat(rows), merged.right)


def _row(stack: Stack, index: int, units: Tensor) -> Tensor:
    """The mask ``[r_i]`` of one adapter; what stands beyond its rank is not read."""
    rank = stack.lefts[index].shape[1]
    if rank > len(units):
        raise IncompatibleError(
            f"unit masks of module {stack.module!r}: got {len(units)} per adapter, expected at least {rank}",
            hint="masks belong to the factors that they were learned on",
        )
    return units[:rank].double()


def _method(name: str, summary: str, formula: str, source: str, laws: Sequence[str] = _LAWS) -> Method:
    def merge(inputs: Inputs) -> Pieces:
        return weighted_sum(inputs, name)

    merge.__name__, merge.__doc__ = name, weighted_sum.__doc__
    kept: dict[str, dict[str, Any]] = {law: {} for law in laws}
    return Method(name, merge, "coefficients", summary, formula, source, kept, needs=("coefficients",))


ADAMERGING = _method(
    "adamerging",
    "coefficients that make the predictions most certain, by gradient",
    "M = Σ w·c·ΔW, c per adapter (and module) of least entropy",
    "arXiv 2310.02575",
)
FRANK_WOLFE = _method(
    "frank_wolfe",
    "coefficients in the hull of the adapters, by Frank–Wolfe steps",
    "M = Σ w·c·ΔW, c ≥ 0 of a given sum and least loss",
    "arXiv 2503.12649",
)
MAP = _method(
    "map",
    "coefficients from the front of trade-offs between the tasks, by quadratic surrogates",
    "M = Σ w·c·ΔW, c on the Pareto front of link(e + bᵀc + cᵀAc)",
    "arXiv 2406.07529",
)
M2N2 = _method(
    "m2n2",
    "coefficients evolved in an archive that competes for data points",
    "M = Σ w·c·ΔW, c by slerp of parents left and right of a split",
    "arXiv 2508.16204",
)
DAM_RANK_MASKS = _method(
    "dam_rank_masks",
    "coefficients and masks of rank units, safe against triggers: an approximation of DAM",
    "M = Σ w·c·s·B·diag(m)·A, one mask entry per rank unit",
    "arXiv 2410.13910",
    ("order", "zero_weight"),
)
