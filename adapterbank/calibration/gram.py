"""Gram matrices of module inputs, what RegMean (arXiv 2212.09849) needs: ``G_i = XᵀX / N`` with adapter i active.

The model with adapter i answers the batches of its own task; labels are not looked at. Only tokens that the task's mask
counts go in (padding does not). A module that only another of the adapters changes is measured, too: there this one's delta is
zero, and the merge must know on which inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from adapterbank.calibration.attached import attached
from adapterbank.calibration.input_grams import InputGrams, PassEnded, watched
from adapterbank.calibration.places import Place, places
from adapterbank.calibration.record import Progress
from adapterbank.calibration.tasks import Setting, Task, tasks_of
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Statistics

KIND = "gram"


def gram(
    setting: Setting, adapters: Sequence[Adapter], names: Sequence[str], seed: int = 0, progress: Progress | None = None
) -> tuple[Statistics, ...]:
    """One value of kind ``gram`` per adapter: float32, the entries of G on and above its diagonal, row by row
    ``[d_in(d_in + 1)/2]``; of an embedding its diagonal ``[vocabulary]``.

    The setting's tasks are those of the adapters, in their order (:meth:`Setting.arranged`). ``progress`` is told (adapters
    done, adapters in all). ``seed`` is not used: nothing is drawn. Raises UsageError for tasks that do not fit the adapters,
    and IncompatibleError for adapters that do not fit the model.
    """
    tasks = tasks_of(setting, names)
    found = places(setting.model, adapters)
    results = []
    for name, adapter, task in zip(names, adapters, tasks, strict=True):
        grams = InputGrams(found)
        with attached(setting.model, [adapter], torch.ones(1, len(adapter.modules))):
            measure(setting, task, found, grams)
        tensors, keys = grams.stored()
        about = {"batches": len(task.batches), "tokens": max(map(grams.tokens, keys), default=0)}
        results.append(Statistics(KIND, name, tensors, keys, about))
        if progress is not None:
            progress(len(results), len(adapters))
    return tuple(results)


def measure(setting: Setting, task: Task, found: Sequence[Place], grams: InputGrams) -> None:
    """Run all batches of ``task``, each to its end or :class:`PassEnded`, and add up what goes into the modules ``found``."""
    with torch.no_grad(), watched(found, grams.add):
        for batch in task.batches:
            grams.mask = task.counted(batch)
            with suppress(PassEnded):
                task.outputs(setting.model, batch)
