"""Learning coefficients by Adam on batches of all tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adapterbank.calibration.attached import Site
from adapterbank.calibration.objectives import Batches, Objective, drawn_batches, mean_loss
from adapterbank.calibration.record import Progress
from adapterbank.calibration.tasks import Setting

Granularity = Literal["task", "layer"]


@dataclass(frozen=True, slots=True)
class FreeCoefficients:
    """How the coefficients of a merge follow from those that are learned: per adapter or per module, clamped or not."""

    granularity: Granularity = "layer"
    init: float = 0.3
    clamp: bool = True

    def start(self, site: Site, n: int) -> Tensor:
        """What is learned, ``[n, 1]`` or ``[n, L]`` float64, every entry ``init``."""
        return torch.full((n, len(site.modules) if self.granularity == "layer" else 1), self.init, dtype=torch.float64)

    def used(self, free: Tensor, site: Site) -> Tensor:
        """The coefficients ``[n, L]``. Outside of [0, 1] a clamped one passes no gradient back, so it can get stuck."""
        used = free.clamp(0.0, 1.0) if self.clamp else free
        return used.expand(-1, len(site.modules))


@dataclass(frozen=True, slots=True)
class Descent:
    """Adam with AdaMerging's betas: what is minimised, how many steps, the learning rate."""

    objective: Objective = "entropy"
    steps: int = 500
    lr: float = 1e-3


Told = Callable[[float], float]  # passes a value on and reports one step as done


def continued(progress: Progress | None, total: int) -> Told:
    """Reports (1, total), (2, total) … to ``progress``, one per call."""
    done = 0

    def told(value: float) -> float:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)
        return value

    return told


def descend(
    setting: Setting, site: Site, form: FreeCoefficients, descent: Descent, seed: int, told: Told
) -> tuple[Tensor, list[float]]:
    """The coefficients ``[n, L]`` that Adam finds on batches drawn by ``seed``, and the loss before each step."""
    free = form.start(site, len(site.ranks[site.modules[0]]))
    loss = batch_loss(setting, site, descent.objective, drawn_batches(setting.tasks, seed))
    trace = adam(lambda: loss(form.used(free, site)), free, descent, told)
    return form.used(free, site), trace


def batch_loss(setting: Setting, site: Site, objective: Objective, batches: Iterator[Batches]) -> Callable[[Tensor], Tensor]:
    """The objective as a function of the coefficients ``[n, L]``, on the next batches at every call."""

    def loss(coefficients: Tensor) -> Tensor:
        site.coefficients = coefficients
        return mean_loss(objective, setting.tasks, setting.model, next(batches))

    return loss


def adam(loss: Callable[[], Tensor], leaf: Tensor, descent: Descent, told: Told) -> list[float]:
    """Minimise ``loss`` over ``leaf`` in place; returns its value before each step."""
    leaf.requires_grad_(True)
    optimizer = torch.optim.Adam([leaf], lr=descent.lr, betas=(0.9, 0.999))
    trace = []
    for _ in range(descent.steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        trace.append(told(float(value.detach())))
    leaf.requires_grad_(False)
    return trace
