"""Fisher-weighted averaging (arXiv 2111.09832): the mode of the product of the adapters' diagonal Gaussian posteriors.

Entry by entry the mean of the deltas by their Fisher information; the base's weights cancel. Names and defaults are those of
FusionBench. ``normalize_fisher_weight`` divides each adapter's Fisher by its norm over the whole model, so that a task with
large gradients does not outweigh the others. Ours: a negative weight asks for −ΔW_i; ``minimal_fisher_weight`` is in units of
the mean Fisher entry of all adapters instead of absolute, so that the units of the loss do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Annotated

import torch
from torch import Tensor

from adapterbank.errors import UsageError
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.needed import needed_statistics, tensors_of
from adapterbank.merge.options import Hint
from adapterbank.merge.stack import Stack

Normalize = Annotated[bool, Hint("divide each adapter's Fisher by its norm over the whole model")]
Minimal = Annotated[float, Hint("added to every Fisher entry, in units of their mean over all adapters", at_least=0.0)]
_ROWS = 512


def fisher(inputs: Inputs, *, normalize_fisher_weight: Normalize = True, minimal_fisher_weight: Minimal = 1e-6) -> Pieces:
    """``M = Σ w_i F_i∘ΔW_i / Σ |w_i| F_i``, the mean Σ w_i ΔW_i / Σ |w_i| where no adapter has any Fisher.

    Reports ``fisher_loss``, (Σ |w_i| F_i∘(M − ΔW_i)² / Σ |w_i| F_i∘ΔW_i²)^½ before the cut, and the same of the average,
    ``average_loss``. Raises UsageError without Fisher information, or if all weights are 0.
    """
    statistics = needed_statistics(inputs, "fisher", "fisher")
    if not any(inputs.weights):
        raise UsageError(f"fisher: the weights {list(inputs.weights)} are all 0")
    scales, floor = _scales(inputs, statistics, normalize=normalize_fisher_weight)
    for stack in inputs:
        information = tensors_of(stack, statistics, ((stack.d_out, stack.d_in),))
        scaled = [F * scales[name] for F, name in zip(information, stack.names, strict=True)]
        yield _piece(stack, scaled, minimal_fisher_weight * floor)


def _scales(inputs: Inputs, statistics: Mapping[str, Statistics], *, normalize: bool) -> tuple[dict[str, float], float]:
    """What each adapter's Fisher is multiplied by, and the mean entry of all of them (by |weight|) after that."""
    sums, squares, entries = (dict.fromkeys(inputs.names, 0.0) for _ in range(3))
    for name in sums:
        for module in sorted(statistics[name].modules.keys() & inputs.shapes.keys()):  # in any order the last bit would vary
            F = statistics[name].of(module).double()
            sums[name] += float(F.sum())
            squares[name] += float(F.square().sum())
            entries[name] += F.numel()
    scales = {name: 1.0 / sqrt(square) if normalize and square else 1.0 for name, square in squares.items()}
    pairs = list(zip(inputs.names, map(abs, inputs.weights), strict=True))
    mean = sum(w * scales[name] * sums[name] / max(1.0, entries[name]) for name, w in pairs) / sum(w for _, w in pairs)
    return scales, mean or 1.0


def _piece(stack: Stack, information: list[Tensor], floor: float) -> Piece:
    """The merge of one module in tiles of rows; ``information [d_out, d_in]`` per adapter."""
    merged = torch.empty(stack.d_out, stack.d_in, dtype=torch.float64)
    losses = torch.zeros(3, dtype=torch.float64)  # of the merge, of the average, of nothing
    size = sum(map(abs, stack.weights)) or 1.0
    for start in range(0, stack.d_out, _ROWS):
        rows = slice(start, start + _ROWS)
        deltas = torch.stack([stack.rows(i, rows) for i in range(len(stack))])
        weights = torch.tensor(stack.weights, dtype=torch.float64)[:, None, None]
        F = torch.stack([own[rows] for own in information])
        shares = weights.abs() * (F + floor)
        wanted = weights.sign() * deltas
        total = shares.sum(0)
        merged[rows] = torch.where(total > 0.0, (shares * wanted).sum(0) / total, (weights * deltas).sum(0) / size)
        average = (weights * deltas).sum(0) / size
        answers = torch.stack([merged[rows], average, torch.zeros_like(average)])
        losses += (weights.abs() * F * (answers[:, None] - wanted).square()).sum(dim=(1, 2, 3))
    mine, mean, whole = losses.tolist()
    return Piece(stack.module, merged, {"fisher_loss": (mine, whole), "average_loss": (mean, whole)})


METHOD = Method(
    name="fisher",
    merge=fisher,
    kind="statistics",
    summary="mean of the deltas by the Fisher information of each entry",
    formula="M = Σ w·F∘ΔW / Σ |w|·F",
    source="arXiv 2111.09832",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
    needs=("fisher",),
)
