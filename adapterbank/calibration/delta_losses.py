"""Losses of a merge that are quadratic in its deltas: RegMean's and Fisher's, on whatever data they are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterbank.calibration.fisher import fisher
from adapterbank.calibration.gram import gram
from adapterbank.calibration.judging import Case, Measure, Score
from adapterbank.calibration.merged_gram import grams_behind
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import relative
from adapterbank.merge.core import LowRank
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.least_squares import unpacked, weighed
from adapterbank.merge.stack import Stack

_ROWS = 512


_Loss = Callable[[LowRank, str, str], float]  # of a delta, in a module, under an adapter's statistics


def regmean_loss(case: Case) -> Measure:
    """``(Σ |w_i|·tr(D_i G_i D_iᵀ) / Σ |w_i|·tr(ΔW_i G_i ΔW_iᵀ))^½`` with ``D_i = M − sign(w_i)·ΔW_i``: how far the answers are
    from each adapter's on its own inputs (RegMean, arXiv 2212.09849); G_i from the case's data."""
    found = {own.adapter: own for own in gram(case.setting, case.inputs.adapters, case.inputs.names, 0, case.progress)}

    def weigh(delta: LowRank, module: str, name: str) -> float:
        return weighed(delta, unpacked(found[name].of(module).double(), len(delta.right)))

    return _measuring("regmean_loss", case, weigh)


def regmean_loss_behind(case: Case) -> Measure:
    """The same on the inputs that come through the layers of the case's ``result`` (RegMean++, arXiv 2508.03121)."""

    def merged(place: Any, _: object) -> Factors:
        return case.result.modules[place.name]

    grams = grams_behind(merged, case.setting, case.inputs.adapters, case.inputs.names, case.progress)
    return _measuring("regmean_loss", case, lambda delta, module, name: weighed(delta, grams[name].of(module)))


def fisher_loss(case: Case) -> Measure:
    """``(Σ |w_i|·F_i∘D_i² / Σ |w_i|·F_i∘ΔW_i²)^½`` (arXiv 2111.09832), F_i from the case's data, divided by its norm over the
    model if the method's option ``normalize_fisher_weight`` says so."""
    options = {"classes": case.options["classes"]} if "classes" in case.options else {}
    found = {
        own.adapter: own for own in fisher(case.setting, case.inputs.adapters, case.inputs.names, 0, case.progress, **options)
    }
    scales = dict.fromkeys(found, 1.0)
    if case.options.get("normalize_fisher_weight", True):
        sizes = {name: sum(float(F.double().square().sum()) for F in own.tensors.values()) for name, own in found.items()}
        scales = {name: size**-0.5 if size else 1.0 for name, size in sizes.items()}
    return _measuring("fisher_loss", case, lambda delta, module, name: scales[name] * _squares(delta, found[name].of(module)))


def _squares(delta: LowRank, F: Tensor) -> float:
    """``Σ F∘delta²`` in tiles of rows."""
    tiles = range(0, len(F), _ROWS)
    return sum(float(((delta.left[at : at + _ROWS] @ delta.right.T).square() * F[at : at + _ROWS]).sum()) for at in tiles)


def _measuring(name: str, case: Case, loss: _Loss) -> Measure:
    refs = dict(zip(case.inputs.names, case.setting.tasks, strict=True))
    whole = _weighed(case.inputs, None, loss)

    def measure(merged: Adapter) -> Mapping[str, Score]:
        lost = _weighed(case.inputs, merged, loss)
        tasks = {refs[adapter]: relative(lost[adapter], own) for adapter, own in whole.items()}
        return {name: Score(relative(sum(lost.values()), sum(whole.values())), tasks)}

    return measure


@torch.no_grad()
def _weighed(inputs: Inputs, merged: Adapter | None, loss: _Loss) -> dict[str, float]:
    """Over the modules and by adapter: ``|w_i|·loss`` of the merge's difference from it, or of no merge at all."""
    sums = dict.fromkeys(inputs.names, 0.0)
    for module in inputs.shapes:
        stack = inputs.original(module)
        for index, name in enumerate(stack.names):
            wanted, weight = _wanted(stack, index)
            sums[name] += weight * loss(wanted if merged is None else _difference(merged, module, wanted), module, name)
    return sums


def _difference(merged: Adapter, module: str, wanted: LowRank) -> LowRank:
    M = merged.modules[module]
    left = torch.cat([M.B.double() * M.scaling, -wanted.left], dim=1)
    return LowRank(left, torch.cat([M.A.double().T, wanted.right], dim=1))


def _wanted(stack: Stack, index: int) -> tuple[LowRank, float]:
    """``sign(w_i)·ΔW_i`` and ``|w_i|``."""
    weight = stack.weights[index]
    return LowRank(stack.lefts[index] * (-1.0 if weight < 0.0 else 1.0), stack.rights[index]), abs(weight)
