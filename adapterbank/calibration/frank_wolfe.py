"""Frank–Wolfe merging (FW-Merging, arXiv 2503.12649): walk in the hull of the adapters, towards the one the gradient wants.

The merge is ``W + Σ_i c_il·ΔW_il`` with c on the simplex times ``scale``, per module (granularity layer) or over all (task).
As ``<∂L/∂W_l, ΔW_il> = ∂L/∂c_il``, one backward pass through the adapters side by side answers the linear minimisation for
all of them, and the duality gap ``<g, c − corner>`` comes for free: it is the stopping test and part of the trace.

*hard*: one corner per step, for the mean loss of all tasks; step 2/(t + 2), times ``step_size``.
*soft*: every task picks the best corner that is still free for its own loss; how far to go towards each, in each module, is
learned by Adam on the same objective.

Ours where the authors' code differs: they score candidates by sums of cosines between gradient and *whole weights*, we by the
inner products with the deltas, which is what Frank–Wolfe asks for; they add up scaled checkpoints, we stay on the simplex
(soft: the learned steps are cut so that they sum to at most 1). The gradient is that of all the batches, so the hard form
draws nothing. The result is the iterate with the smallest loss, not the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from adapterbank.calibration.adamerging import Minimise, Per
from adapterbank.calibration.attached import Site, attached
from adapterbank.calibration.descent import Descent, Told, adam, batch_loss, continued
from adapterbank.calibration.objectives import LOSSES, Objective, checked, drawn_batches
from adapterbank.calibration.record import Progress, check_names, judge, learned
from adapterbank.calibration.simplex import Gradients, Simplex, Slope, hard_move, towards, walk
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.options import Hint

Variant = Annotated[Literal["hard", "soft"], Hint("one corner for all tasks per step, or one per task with learned steps")]
Iterations = Annotated[int, Hint("steps at most", at_least=0)]
StepSize = Annotated[float, Hint("hard: multiplies 2/(t + 2)", above=0.0, at_most=1.0)]
SimplexScale = Annotated[float, Hint("what the coefficients of a module sum to", above=0.0)]
Tolerance = Annotated[float, Hint("stop at a duality gap of at most this", at_least=0.0)]
AdaSteps = Annotated[int, Hint("soft: steps of Adam per iteration", at_least=0)]
AdaCoefficient = Annotated[float, Hint("soft: where Adam starts after the first iteration, in which it starts at 0.3")]

_FIRST = 0.3


def frank_wolfe(  # noqa: PLR0913 - the options are keyword-only
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    variant: Variant = "hard",
    granularity: Per = "layer",
    max_iters: Iterations = 10,
    step_size: StepSize = 1.0,
    scale: SimplexScale = 1.0,
    tolerance: Tolerance = 0.0,
    objective: Minimise = "cross_entropy",
    ada_iters: AdaSteps = 500,
    ada_coeff: AdaCoefficient = 1e-8,
) -> tuple[Coefficients, ...]:
    """One :class:`Coefficients`, the best iterate from the average; the trace holds loss and gap of every iterate.

    Raises UsageError for tasks without batches, or labels that the objective needs and a task lacks.
    """
    check_names(names, adapters)
    checked(setting.tasks, labelled=objective == "cross_entropy")
    simplex = Simplex(scale, by_layer=granularity == "layer")
    options: dict[str, Any] = {"variant": variant, "granularity": granularity, "max_iters": max_iters, "step_size": step_size}
    options |= {"scale": scale, "tolerance": tolerance, "objective": objective, "ada_iters": ada_iters, "ada_coeff": ada_coeff}
    about: dict[str, Any] = {"method": "frank_wolfe", "options": options, "seed": seed, "objective": objective}
    with attached(setting.model, adapters) as site:
        start = torch.full((len(adapters), len(site.modules)), scale / len(adapters), dtype=torch.float64)
        move = hard_move(simplex, step_size)
        if variant == "soft":
            move = _soft_move(setting, site, simplex, Descent(objective, ada_iters), ada_coeff, seed)
        told = continued(progress, max_iters + 1)
        values, trace = walk(_gradients(setting, site, objective, told), move, start, max_iters, simplex, tolerance)
        about |= {"trace": [value for value, _ in trace], "gaps": [gap for _, gap in trace]}
        about |= {"before": judge(setting, site, start), "after": judge(setting, site, values)}
        return (learned(site, names, values, about),)


def _gradients(setting: Setting, site: Site, objective: Objective, told: Told) -> Gradients:
    """Loss and gradient of each task over all of its batches, as a function of the coefficients."""

    def gradients(coefficients: Tensor) -> Sequence[Slope]:
        told(0.0)
        return [task_slope(task, setting, site, objective, coefficients) for task in setting.tasks.values()]

    return gradients


def task_slope(task: Task, setting: Setting, site: Site, objective: Objective, coefficients: Tensor) -> Slope:
    """The mean over the batches of ``task`` of the loss and of ∂L/∂c ``[n, L]``."""
    leaf = coefficients.clone().requires_grad_(True)
    site.coefficients = leaf
    total = 0.0
    for batch in task.batches:
        loss = LOSSES[objective](task, setting.model, batch) / len(task.batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    assert leaf.grad is not None
    return total, leaf.grad


def _soft_move(
    setting: Setting, site: Site, simplex: Simplex, descent: Descent, later: float, seed: int
) -> Callable[[int, Tensor, Sequence[Slope]], Tensor]:
    """Towards a corner of each task's own, by steps ``[T, L]`` that Adam learns from 0.3, later from ``later``."""

    def move(step: int, current: Tensor, slopes: Sequence[Slope]) -> Tensor:
        corners = simplex.distinct_corners([slope for _, slope in slopes])
        columns = current.shape[1] if simplex.by_layer else 1
        lengths = torch.full((len(corners), columns), later if step else _FIRST, dtype=torch.float64)
        loss = batch_loss(setting, site, descent.objective, drawn_batches(setting.tasks, seed + step))
        adam(lambda: loss(towards(current, corners, lengths)), lengths, descent, float)
        return towards(current, corners, lengths)

    return move
