"""Figures of a merge that take the model: what it answers, and how far it is from the best in the hull of the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

import torch

from adapterbank.calibration.attached import attached
from adapterbank.calibration.frank_wolfe import task_slope
from adapterbank.calibration.judging import Case, Measure, Score
from adapterbank.calibration.objectives import measured
from adapterbank.calibration.simplex import Simplex
from adapterbank.calibration.simplex import mean as mean_slope
from adapterbank.lora.adapter import Adapter


def answers(case: Case) -> Measure:
    """Entropy, and with labels cross-entropy, accuracy and likelihood of the right class: of each task, and their means."""

    def measure(merged: Adapter) -> Mapping[str, Score]:
        with attached(case.setting.model, [merged], torch.ones(1, len(merged.modules))):
            found = {ref: measured(task, case.setting.model) for ref, task in case.setting.tasks.items()}
        common = set.intersection(*(set(each) for each in found.values()))
        by_name = {name: {ref: each[name] for ref, each in found.items()} for name in sorted(common)}
        return {name: Score(mean(tasks.values()), tasks) for name, tasks in by_name.items()}

    return measure


def answers_and_gap(case: Case) -> Measure:
    """The same, and ``gap``: ⟨∇L, M − S⟩ for the corner S of the hull of the adapters that is best by ∇L, the gradient at M of
    the mean loss over tasks (Frank–Wolfe, arXiv 2503.12649). Below 0 for an M outside of the hull that is better than it."""
    scored = answers(case)
    return lambda merged: {**scored(merged), "gap": Score(gap(case, merged))}


def gap(case: Case, merged: Adapter) -> float:
    """⟨∇L, M − S⟩; the gradient with respect to the coefficients of M and the adapters side by side has all inner products."""
    options = case.options
    simplex = Simplex(options.get("scale", 1.0), by_layer=options.get("granularity", "layer") == "layer")
    together = [merged, *case.inputs.adapters]
    setting = case.setting
    with attached(setting.model, together) as site:
        at = torch.zeros(len(together), len(site.modules), dtype=torch.float64)
        at[0] = 1.0
        objective = options.get("objective", "cross_entropy")
        _, slope = mean_slope([task_slope(task, setting, site, objective, at) for task in setting.tasks.values()])
    corner = simplex.corner(slope[1:])
    return float(slope[0].sum() - (slope[1:] * corner).sum())
