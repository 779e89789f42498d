"""Learned coefficients as an artefact, with the story of how they were found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapterbank.calibration.attached import Site
from adapterbank.calibration.objectives import judged
from adapterbank.calibration.tasks import Setting
from adapterbank.errors import UsageError
from adapterbank.merge.artefacts import Coefficients

Progress = Callable[[int, int], None]
Judgement = Mapping[str, Any]


def judge(setting: Setting, site: Site, coefficients: Tensor) -> Judgement:
    """``{"calibration": …}``: how certain and right the merge with ``coefficients [n, L]`` is on the batches that it is learned
    from, by task and in the mean. What is held out is judged by :mod:`adapterbank.calibration.held_out`.
    """
    with torch.no_grad():
        site.coefficients = coefficients
        return {"calibration": judged(setting.tasks, setting.model)}


def learned(
    site: Site, names: Sequence[str], values: Tensor, about: Mapping[str, Any], units: Mapping[str, Tensor] | None = None
) -> Coefficients:
    """``values [n, L]`` for the adapters ``names`` in the site's modules, as float64 copies; ``about`` goes with them."""
    kept = {module: unit.detach().cpu().double().clone() for module, unit in (units or {}).items()}
    return Coefficients(tuple(names), site.modules, values.detach().cpu().double().clone(), dict(about), kept)


def check_names(names: Sequence[str], adapters: Sequence[object]) -> None:
    """Raises UsageError unless there is one name for every adapter, each a different one."""
    if len(names) != len(adapters):
        raise UsageError(f"got {len(adapters)} adapters and {len(names)} names")
    if len(set(names)) != len(names):
        raise UsageError("the same adapter was given twice: coefficients of equal adapters cannot be told apart")
