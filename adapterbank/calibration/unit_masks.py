"""Learning Concrete masks of rank units against perturbed inputs: the three alternating steps of safe Concrete merging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterbank.calibration.attached import Site
from adapterbank.calibration.concrete import concrete, rescaled
from adapterbank.calibration.descent import FreeCoefficients
from adapterbank.calibration.objectives import answers, drawn_batches, entropy
from adapterbank.calibration.perturbed import Perturbation
from adapterbank.calibration.tasks import Setting, Task

Safety = Literal["entropy", "consistency"]
TaskLoss = Callable[[str, Task, Any], Tensor]  # of one batch of one task


@dataclass(frozen=True, slots=True)
class MaskRules:
    """The authors' settings, by their names."""

    max_steps: int = 1000
    lr: float = 1e-3
    base_lr: float = 1.0
    adv_lr: float = 1e-4
    adv_weight: float = 0.1
    trigger_norm: float = 1000.0
    temperature: float = 0.5
    safe_loss: Safety = "entropy"


def mask_of(site: Site, logits: Tensor, temperature: float, draw: torch.Generator | None = None) -> dict[str, Tensor]:
    """The mask ``[R]`` of every module, its mean 1, from the ``logits`` of all units; without ``draw`` free of noise."""
    soft = torch.sigmoid(logits / temperature) if draw is None else concrete(logits, temperature, draw)
    parts = torch.split(soft, [sum(site.ranks[module]) for module in site.modules])
    return {module: rescaled(part) for module, part in zip(site.modules, parts, strict=True)}


class MaskLearner:
    """``logits`` of all rank units, module after module, and a perturbation ``[width]`` per task in ``noises``.

    A forward pass must have gone through ``perturbation``, so that its width is known.
    """

    def __init__(
        self, setting: Setting, site: Site, perturbation: Perturbation, form: FreeCoefficients, rules: MaskRules, seed: int
    ) -> None:
        self._setting, self._site, self._perturbation, self._form, self._rules = setting, site, perturbation, form, rules
        self._draw, self._batches = torch.Generator().manual_seed(seed), drawn_batches(setting.tasks, seed)
        n = len(next(iter(site.ranks.values())))
        self._free = form.start(site, n).requires_grad_(True)
        self.logits = torch.zeros(sum(sum(ranks) for ranks in site.ranks.values()), requires_grad=True)
        self.noises = {name: torch.zeros(perturbation.width, requires_grad=True) for name in setting.tasks}
        self._inner = torch.optim.Adam([self._free], lr=rules.base_lr)
        self._noise = torch.optim.Adam(list(self.noises.values()), lr=rules.adv_lr)
        self._outer = torch.optim.Adam([self.logits], lr=rules.lr)

    def step(self) -> float:
        """One round: coefficients, perturbations, logits. Returns the logits' loss before the step."""
        site, rules = self._site, self._rules
        mask = mask_of(site, self.logits, rules.temperature, self._draw)
        self._free.data.fill_(self._form.init)
        site.units = {module: part.detach() for module, part in mask.items()}
        site.coefficients = self._form.used(self._free, site)
        self._minimise(self._inner, self._certainty)
        site.coefficients = self._form.used(self._free, site).detach()
        self._minimise(self._noise, lambda name, task, batch: -self._change(task, batch, self.noises[name]))
        self._bound()
        site.units = mask
        return self._minimise(self._outer, self._certainty_and_safety)

    @torch.no_grad()
    def flipped(self, coefficients: Tensor, units: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """By half and task: the share of the merge's answers that the task's perturbation changes."""
        self._site.coefficients, self._site.units = coefficients, units
        halves = {"calibration": self._setting.tasks, "held_out": self._setting.held_out}
        return {half: {name: self._share(name, task) for name, task in tasks.items()} for half, tasks in halves.items()}

    def _share(self, name: str, task: Task) -> float:
        noise = self.noises.get(name)
        changed = [
            self._logits(task, batch, None).argmax(dim=-1) != self._logits(task, batch, noise).argmax(dim=-1)
            for batch in task.batches
        ]
        return float(torch.cat(changed).double().mean())

    def _minimise(self, optimizer: torch.optim.Optimizer, loss: TaskLoss) -> float:
        drawn = next(self._batches)
        total = torch.stack([loss(name, task, drawn[name]) for name, task in self._setting.tasks.items()]).mean()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(total.detach())

    def _certainty(self, name: str, task: Task, batch: Any) -> Tensor:
        return entropy(self._logits(task, batch, None)).mean()

    def _certainty_and_safety(self, name: str, task: Task, batch: Any) -> Tensor:
        noise = self.noises[name].detach()
        consistent = self._rules.safe_loss == "consistency"
        safe = self._change(task, batch, noise) if consistent else entropy(self._logits(task, batch, noise)).mean()
        return self._certainty(name, task, batch) + self._rules.adv_weight * safe

    def _change(self, task: Task, batch: Any, noise: Tensor) -> Tensor:
        """The cross-entropy of the perturbed answers to what the model answers without the perturbation."""
        with torch.no_grad():
            clean = self._logits(task, batch, None).argmax(dim=-1)
        return nn.functional.cross_entropy(self._logits(task, batch, noise), clean)

    def _logits(self, task: Task, batch: Any, noise: Tensor | None) -> Tensor:
        """The logits ``[N, C]`` with ``noise`` added to what the model reads."""
        self._perturbation.value = noise
        try:
            return answers(task, self._setting.model, batch)[0]
        finally:
            self._perturbation.value = None

    @torch.no_grad()
    def _bound(self) -> None:
        for noise in self.noises.values():
            noise.mul_(min(1.0, self._rules.trigger_norm / max(float(noise.norm()), 1e-30)))
