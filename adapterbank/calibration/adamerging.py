"""AdaMerging (arXiv 2310.02575): coefficients per adapter, or per adapter and module, that make predictions certain.

Minimises the mean entropy of the predictions on unlabelled batches of all tasks over c in ``W + Σ_i c_il·ΔW_il`` by Adam.
The authors' defaults: start 0.3, Adam with learning rate 1e-3 and betas (0.9, 0.999), 500 steps, c clamped to [0, 1] where it
is used (outside there is no gradient, so a coefficient can get stuck; ``clamp`` off leaves it free). One batch per task and
step. Ours: modules stand for parameter tensors, as an adapter has no others; the loss is the mean over tasks, not the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from adapterbank.calibration.attached import attached
from adapterbank.calibration.descent import Descent, FreeCoefficients, Granularity, continued, descend
from adapterbank.calibration.objectives import Objective, checked
from adapterbank.calibration.record import Progress, check_names, judge, learned
from adapterbank.calibration.tasks import Setting
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.options import Hint

Per = Annotated[Granularity, Hint("one coefficient per adapter (task), or per adapter and module (layer)")]
Steps = Annotated[int, Hint("steps of Adam", at_least=0)]
Rate = Annotated[float, Hint("learning rate of Adam; 0 leaves the start", at_least=0.0)]
Start = Annotated[float, Hint("every coefficient at the start")]
Clamp = Annotated[bool, Hint("use coefficients cut to [0, 1]")]
Minimise = Annotated[Objective, Hint("what is minimised; cross_entropy needs labels")]


def adamerging(  # noqa: PLR0913 - the options are keyword-only
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    granularity: Per = "layer",
    steps: Steps = 500,
    lr: Rate = 1e-3,
    init: Start = 0.3,
    clamp: Clamp = True,
    objective: Minimise = "entropy",
) -> tuple[Coefficients, ...]:
    """One :class:`Coefficients`; the trace is the objective of each step's batches, before the step.

    Raises UsageError for tasks without batches, or labels that the objective needs and a task lacks.
    """
    check_names(names, adapters)
    checked(setting.tasks, labelled=objective == "cross_entropy")
    form, descent = FreeCoefficients(granularity, init, clamp), Descent(objective, steps, lr)
    about: dict[str, Any] = {"method": "adamerging", "options": {**asdict(form), **asdict(descent)}, "seed": seed}
    with attached(setting.model, adapters) as site:
        about["before"] = judge(setting, site, form.used(form.start(site, len(adapters)), site))
        values, trace = descend(setting, site, form, descent, seed, continued(progress, steps))
        about |= {"objective": objective, "trace": trace, "after": judge(setting, site, values)}
        return (learned(site, names, values, about),)
