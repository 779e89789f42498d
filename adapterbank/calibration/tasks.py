"""What calibration is given: a model without adapters, and for every adapter batches of its own task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from adapterbank.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The data of one task and how a model answers them.

    ``outputs(model, batch)`` runs the model on one batch and returns logits ``[N, C]``, or ``[N, T, C]`` for a model that
    answers at every token. ``labels(batch)`` returns the right classes ``[N]`` (or ``[N, T]``, −100 where none counts).
    ``mask(batch)`` says which tokens count, ``[N, T]``, non-zero where they do; without it a batch that is a mapping with
    ``"attention_mask"`` is asked for that one, and in any other batch every token counts.
    """

    batches: Sequence[Any]
    outputs: Callable[[nn.Module, Any], Tensor]
    labels: Callable[[Any], Tensor] | None = None
    mask: Callable[[Any], Tensor] | None = None

    def counted(self, batch: Any) -> Tensor | None:
        """Which tokens of ``batch`` count, ``[N, T]`` bool; None if all do."""
        found = self.mask(batch) if self.mask is not None else _attention_mask(batch)
        return None if found is None else found != 0

    def first(self, count: int | None) -> Task:
        """The same with its first ``count`` batches, None for all."""
        return self if count is None else replace(self, batches=[self.batches[i] for i in range(min(count, len(self.batches)))])

    def targets(self, batch: Any) -> Tensor:
        """The right classes of ``batch``. Raises UsageError if the task has no labels."""
        if self.labels is None:
            raise UsageError("this needs the right classes, but the task has none", hint="give Task(…, labels=FUNCTION)")
        return self.labels(batch)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What a user's hook returns: the base ``model``, and by reference the tasks to learn from and those to judge by.

    ``held_out`` may be empty; what is learned never looks at it, it is only measured on it.
    """

    model: nn.Module
    tasks: Mapping[str, Task]
    held_out: Mapping[str, Task] = field(default_factory=dict)

    def arranged(self, refs: Sequence[str], held_out: int | None = None) -> Setting:
        """The same with the tasks of ``refs`` only, in their order: the order of the adapters in a calibration.

        Of each task to judge by at most the first ``held_out`` batches are left. Raises UsageError for a reference without a
        task.
        """
        lacking = [ref for ref in refs if ref not in self.tasks]
        if lacking:
            known = ", ".join(sorted(self.tasks)) or "none"
            raise UsageError(f"the setting has no task for {', '.join(lacking)}: got tasks for {known}")
        judging = {ref: self.held_out[ref].first(held_out) for ref in refs if ref in self.held_out and held_out != 0}
        return Setting(self.model, {ref: self.tasks[ref] for ref in refs}, judging)


def tasks_of(setting: Setting, names: Sequence[str]) -> list[Task]:
    """The task of each of the adapters ``names``: the setting's, in their order.

    Raises UsageError if there are not as many tasks as names, or a task has no batches.
    """
    if len(setting.tasks) != len(names):
        raise UsageError(
            f"got {len(setting.tasks)} tasks ({', '.join(setting.tasks)}) for {len(names)} adapters: expected one each"
        )
    empty = [ref for ref, task in setting.tasks.items() if not len(task.batches)]
    if empty:
        raise UsageError(f"no batches for {', '.join(empty)}: expected at least one")
    return list(setting.tasks.values())


def _attention_mask(batch: Any) -> Tensor | None:
    """The mask that Hugging Face's tokenisers put beside the tokens."""
    found = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return found if isinstance(found, Tensor) and found.ndim == 2 else None
