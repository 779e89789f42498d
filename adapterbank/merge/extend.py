"""One more adapter into a merge that is there: constant memory, the earlier adapters are not needed any more."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.core import LowRank
from adapterbank.merge.determinism import fixed_arithmetic
from adapterbank.merge.inputs import Inputs, common_extras
from adapterbank.merge.methods.opcm import State, advance, truncation
from adapterbank.merge.stack import Stack


@dataclass(frozen=True, slots=True, eq=False)
class Extended:
    """A merge with one more adapter, the state to go on from, and what the cut to its rank lost (relative)."""

    adapter: Adapter
    state: State
    residual: float


def extend(
    previous: Adapter,
    state: State,
    new: Adapter,
    *,
    weight: float = 1.0,
    alpha: float = 0.5,
    k_max: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Extended:
    """The next step of OPCM: ``new`` with ``weight`` into ``previous``, the merge whose ``state`` this is.

    The same as ``opcm`` over all adapters so far with the same options, up to the rounding of ``previous`` to its dtype.
    Raises IncompatibleError for modules of different shapes or tensors beside the factors that differ.
    """
    inputs = Inputs.of([previous, new], [1.0, weight], ["previous", "new"], 0, ordered=True)
    extras = common_extras(inputs)
    with fixed_arithmetic():
        stacks = {stack.module: stack for stack in inputs}
        merged, added = ({m: _delta(stack, i) for m, stack in stacks.items()} for i in (0, 1))
        ranks = {m: k_max or inputs.shapes[m].rank for m in stacks}
        step = advance(merged, state, added, alpha, ranks)
    modules = {
        m: Factors(
            delta.right.T.to(dtype).contiguous(), delta.left.to(dtype).contiguous(), kind=shape.kind, kernel=shape.kernel
        )
        for m, delta, shape in ((m, step.merged[m], inputs.shapes[m]) for m in stacks)
    }
    return Extended(Adapter(modules, previous.base_model, extras), step.state, truncation(step.cuts))


def _delta(stack: Stack, index: int) -> LowRank:
    return LowRank(stack.lefts[index] * stack.weights[index], stack.rights[index])
