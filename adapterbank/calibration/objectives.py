"""What coefficients are learned by and judged by: entropy, cross-entropy and accuracy of a model on tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterbank.calibration.tasks import Task
from adapterbank.errors import UsageError

Objective = Literal["entropy", "cross_entropy"]
Loss = Callable[[Task, nn.Module, Any], Tensor]
Batches = Mapping[str, Any]  # one batch per task


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of softmax(``logits [N, C]``), ``[N]``."""
    log = torch.log_softmax(logits, dim=-1)
    return -(log.exp() * log).sum(dim=-1)


def answers(task: Task, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor | None]:
    """Logits ``[N, C]`` of all in ``batch`` that counts, at least float32, and its right classes ``[N]`` if there are labels.

    A model that answers at every token gives one row per token; tokens that do not count, or whose class is −100, are left out.
    """
    logits = task.outputs(model, batch)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = None if task.labels is None else task.labels(batch).to(logits.device)
    if logits.ndim == 2:
        return logits, labels
    counted = task.counted(batch)
    keep = torch.ones(logits.shape[:2], dtype=torch.bool) if counted is None else counted
    keep = keep.to(logits.device) if labels is None else keep.to(logits.device) & (labels != -100)
    return logits[keep], None if labels is None else labels[keep]


def _mean_entropy(task: Task, model: nn.Module, batch: Any) -> Tensor:
    return entropy(answers(task, model, batch)[0]).mean()


def _mean_cross_entropy(task: Task, model: nn.Module, batch: Any) -> Tensor:
    logits, labels = answers(task, model, batch)
    return nn.functional.cross_entropy(logits, task.targets(batch) if labels is None else labels)


LOSSES: Mapping[Objective, Loss] = {"entropy": _mean_entropy, "cross_entropy": _mean_cross_entropy}


def mean_loss(objective: Objective, tasks: Mapping[str, Task], model: nn.Module, batches: Batches) -> Tensor:
    """The mean over tasks of the loss on one batch each. Raises UsageError if labels are needed and a task has none.

    AdaMerging sums over tasks; the mean has the same minimum, and Adam does not see the factor.
    """
    losses = [LOSSES[objective](task, model, batches[name]) for name, task in tasks.items()]
    return torch.stack(losses).mean()


def drawn_batches(tasks: Mapping[str, Task], seed: int) -> Iterator[Batches]:
    """One batch per task for ever: each task's batches in a new random order every time they have all been seen."""
    draw = torch.Generator().manual_seed(seed)
    queues: dict[str, list[int]] = {name: [] for name in tasks}
    while True:
        for name, task in tasks.items():
            queues[name] = queues[name] or torch.randperm(len(task.batches), generator=draw).tolist()
        yield {name: task.batches[queues[name].pop()] for name, task in tasks.items()}


def checked(tasks: Mapping[str, Task], *, labelled: bool = False) -> Mapping[str, Task]:
    """``tasks``, none of them without batches. Raises UsageError naming what is missing."""
    if not tasks:
        raise UsageError("the setting has no task: expected at least one")
    for name, task in tasks.items():
        if not len(task.batches):
            raise UsageError(f"task {name!r} has no batches")
        if labelled and task.labels is None:
            raise UsageError(f"task {name!r} has no labels, which this needs", hint="give Task(…, labels=FUNCTION)")
    return tasks


@torch.no_grad()
def measured(task: Task, model: nn.Module) -> dict[str, float]:
    """``entropy``, and with labels ``cross_entropy``, ``accuracy`` and ``likelihood`` (of the right class): the means over
    everything in the task that counts."""
    sums: dict[str, float] = {}
    count = 0
    for batch in task.batches:
        logits, labels = answers(task, model, batch)
        count += len(logits)
        for name, values in _figures(logits, labels).items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())
    return {name: value / max(count, 1) for name, value in sums.items()}


@torch.no_grad()
def each_measured(task: Task, model: nn.Module, name: str) -> Tensor:
    """The figure ``name`` of :func:`measured` for each thing that counts, ``[J]`` float64 on the CPU."""
    return torch.cat([_figures(*answers(task, model, batch))[name].double().cpu() for batch in task.batches])


def _figures(logits: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    found = {"entropy": entropy(logits)}
    if labels is not None:
        found["cross_entropy"] = nn.functional.cross_entropy(logits, labels, reduction="none")
        found["accuracy"] = (logits.argmax(dim=-1) == labels).double()
        found["likelihood"] = torch.softmax(logits.double(), dim=-1).gather(1, labels[:, None])[:, 0]
    return found


@torch.no_grad()
def point_scores(task: Task, model: nn.Module, score: Literal["correct", "likelihood"]) -> Tensor:
    """One score per data point of a labelled task, ``[J]``: 1 if it is answered right, or the right class's probability."""
    scores = []
    for batch in task.batches:
        logits, labels = answers(task, model, batch)
        right = task.targets(batch) if labels is None else labels
        if score == "correct":
            scores.append((logits.argmax(dim=-1) == right).double())
        else:
            scores.append(torch.softmax(logits.double(), dim=-1).gather(1, right[:, None])[:, 0])
    return torch.cat(scores).cpu()


def judged(tasks: Mapping[str, Task], model: nn.Module) -> dict[str, dict[str, float]]:
    """:func:`measured` of every task, and their means under ``"mean"``."""
    found = {name: measured(task, model) for name, task in tasks.items()}
    common = set.intersection(*(set(each) for each in found.values())) if found else set()
    means = {key: sum(each[key] for each in found.values()) / len(found) for key in sorted(common)}
    return {**found, "mean": means} if found else {}
