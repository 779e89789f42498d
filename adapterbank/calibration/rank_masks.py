"""Masks over rank units that make a merge insensitive to triggers: an approximation of DAM (arXiv 2410.13910).

DAM, defence-aware merging, learns masks over all parameters, one for what tasks share and one that detects backdoors; the
second one's equations are not public. This follows the authors' published code for its one-mask form (safe Concrete
AdaMerging), with **one mask entry per rank unit** (adapter, module, k) instead of one per parameter: R numbers per module, and
the result ``W + Σ_i c_il·s_i·B_i diag(m_i) A_i`` is a LoRA exactly. So it is not DAM, and is called ``rank_masks``.

Each step draws a Concrete mask m = σ((logit + noise)/T) over its mean in the module, and then (1) resets the coefficients to
``init`` and makes one step of Adam on the entropy, (2) changes a perturbation per task so that it changes answers most,
(3) changes the logits to lower H(f(x)) + ``adv_weight``·H(f(x + δ)). At last AdaMerging learns the coefficients under the mask.

As the authors': T 0.5, logits from 0, Adam at 1e-3 for masks, 1e-4 for δ and 1 for the inner step, 1000 steps and 1000 of
AdaMerging. Ours: δ is added to the input embeddings, the same at every token (images have pixels, texts do not);
``trigger_norm`` bounds ‖δ‖; the final mask is the one without noise; and ``safe_loss`` consistency, which asks that f(x + δ)
still answers as f(x) does, while low entropy alone is also reached by being sure of the wrong answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from adapterbank.calibration.adamerging import Clamp, Per, Rate, Start
from adapterbank.calibration.attached import attached
from adapterbank.calibration.descent import Descent, FreeCoefficients, continued, descend
from adapterbank.calibration.objectives import checked
from adapterbank.calibration.perturbed import perturbed
from adapterbank.calibration.record import Progress, check_names, judge, learned
from adapterbank.calibration.tasks import Setting
from adapterbank.calibration.unit_masks import MaskLearner, MaskRules, Safety, mask_of
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.options import Hint

MaskSteps = Annotated[int, Hint("steps that learn the masks; 0 leaves them 1: AdaMerging", at_least=0)]
AdaSteps = Annotated[int, Hint("steps of AdaMerging under the masks", at_least=0)]
MaskRate = Annotated[float, Hint("learning rate of the masks", at_least=0.0)]
InnerRate = Annotated[float, Hint("learning rate of the inner step of the coefficients", at_least=0.0)]
NoiseRate = Annotated[float, Hint("learning rate of the perturbations", at_least=0.0)]
SafeWeight = Annotated[float, Hint("weight of the loss under perturbation", at_least=0.0)]
TriggerNorm = Annotated[float, Hint("largest norm of a perturbation", above=0.0)]
Temperature = Annotated[float, Hint("temperature of the Concrete masks", above=0.0)]
SafeLoss = Annotated[Safety, Hint("under perturbation: low entropy, as the authors' code, or the answer given without it")]


def rank_masks(  # noqa: PLR0913 - the options are keyword-only
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    granularity: Per = "layer",
    max_steps: MaskSteps = 1000,
    max_adamerging_steps: AdaSteps = 1000,
    lr: MaskRate = 1e-3,
    base_lr: InnerRate = 1.0,
    adv_lr: NoiseRate = 1e-4,
    adamerging_lr: Rate = 1e-3,
    adv_weight: SafeWeight = 0.1,
    trigger_norm: TriggerNorm = 1000.0,
    temperature: Temperature = 0.5,
    safe_loss: SafeLoss = "entropy",
    init: Start = 0.3,
    clamp: Clamp = True,
) -> tuple[Coefficients, ...]:
    """One :class:`Coefficients` with unit masks; its ``flipped`` is the share of answers that the perturbations change.

    Raises UsageError for tasks without batches.
    """
    check_names(names, adapters)
    checked(setting.tasks)
    rules = MaskRules(max_steps, lr, base_lr, adv_lr, adv_weight, trigger_norm, temperature, safe_loss)
    form = FreeCoefficients(granularity, init, clamp)
    descent = Descent("entropy", max_adamerging_steps, adamerging_lr)
    told = continued(progress, max_steps + max_adamerging_steps)
    options = {**asdict(form), **asdict(rules), "max_adamerging_steps": max_adamerging_steps, "adamerging_lr": adamerging_lr}
    about: dict[str, Any] = {"method": "dam_rank_masks", "options": options, "seed": seed, "objective": "entropy"}
    with attached(setting.model, adapters) as site, perturbed(setting.model) as perturbation:
        start = form.used(form.start(site, len(adapters)), site)
        about["before"] = judge(setting, site, start)
        learner = MaskLearner(setting, site, perturbation, form, rules, seed)
        about["mask_trace"] = [told(learner.step()) for _ in range(max_steps)]
        flips = {"before": learner.flipped(start, {})}
        site.units = mask_of(site, learner.logits.detach(), temperature)
        values, about["trace"] = descend(setting, site, form, descent, seed, told)
        about["after"] = judge(setting, site, values)
        about["flipped"] = {**flips, "after": learner.flipped(values, site.units)}
        units = {module: site.table(module, mask) for module, mask in site.units.items()}
        return (learned(site, names, values, about, units),)
