"""Layer assembly, the LoRA form of Deep Model Assembling (arXiv 2212.04129): every module from one adapter, none averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from adapterbank.errors import UsageError
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.method import Method, Piece, Pieces
from adapterbank.merge.options import Hint
from adapterbank.merge.stack import Stack
from adapterbank.merge.weights import layer_of

By = Annotated[
    Literal["depth", "weights"],
    Hint("adapters get contiguous ranges of layers in the order given, or each module goes to its largest weight"),
]


def layer_assembly(inputs: Inputs, *, by: By = "depth") -> Pieces:
    """``M = w_i ΔW_i`` with one adapter i per module: its own factors, its own rank, no residual.

    ``depth`` (the authors' division into parts of one depth): layer l of L goes to adapter ⌊l·n/L⌋, in the order in which the
    adapters were given, those of weight 0 left out; a layer's number is the first number among the parts of a module's name,
    and modules before, beside or after the layers, which have none, go to the first adapter. ``weights``: a module goes to the
    adapter of the largest weight there, so weights by pattern choose module by module. Raises UsageError if two share it.
    """
    layers = _layers(inputs.shapes)
    for stack in inputs:
        chosen = _by_weight(stack) if by == "weights" else _by_depth(inputs, stack, layers)
        yield Piece(stack.module, _alone(stack, chosen), facts={"adapter": float(chosen)})


def _layers(modules: Iterable[str]) -> dict[int, int]:
    """The place of each layer number among all that occur."""
    numbers = sorted({number for number in map(layer_of, modules) if number is not None})
    return {number: place for place, number in enumerate(numbers)}


def _by_depth(inputs: Inputs, stack: Stack, layers: dict[int, int]) -> int:
    present = [i for i, weight in enumerate(inputs.weights) if weight != 0.0]
    if not present:
        raise UsageError("layer_assembly: every weight is 0, so no adapter is left to take a layer from")
    number = layer_of(stack.module)
    return present[0] if number is None else present[layers[number] * len(present) // len(layers)]


def _by_weight(stack: Stack) -> int:
    largest = max(abs(weight) for weight in stack.weights)
    chosen = [member for member, weight in zip(stack.members, stack.weights, strict=True) if abs(weight) == largest]
    if len(chosen) > 1:
        raise UsageError(
            f"layer_assembly: {len(chosen)} adapters have the weight {largest:g} in module {stack.module!r}, expected one",
            hint="give weights by pattern or by depth",
        )
    return chosen[0]


def _alone(stack: Stack, chosen: int) -> LowRank:
    """``w·ΔW`` of the adapter in that place of the merge; zero if it is not in the stack."""
    if chosen not in stack.members:
        return LowRank(stack.lefts[0][:, :0], stack.rights[0][:, :0])
    at = stack.members.index(chosen)
    return LowRank(stack.lefts[at] * stack.weights[at], stack.rights[at])


METHOD = Method(
    name="layer_assembly",
    merge=layer_assembly,
    kind="linear",
    summary="every module from one adapter, by depth or by weight",
    formula="M = w_i·ΔW_i, one i per module",
    source="arXiv 2212.04129",
    laws={"itself": {}, "copies": {}, "zero_weight": {}, "gauge": {}},
    keeps_rank=True,
    ordered=True,
)
