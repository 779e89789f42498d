"""Diagonal Fisher information of whole weight matrices, what Fisher-weighted averaging (arXiv 2111.09832) needs.

``F_i = E_x E_{c~p(c|x)} [(∂ log p(c|x) / ∂W)²]`` with adapter i active on its own task, dense ``[d_out, d_in]`` per module,
accumulated example by example. The expectation over classes is exact by default: one backward pass per class. (The authors'
code differentiates Σ_c √p(c)·log p(c) once, which adds products of different classes' gradients, and squares the sum over a
batch.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from adapterbank.calibration.attached import attached
from adapterbank.calibration.gradients import Call, Classes, score_gradients
from adapterbank.calibration.places import Place, places
from adapterbank.calibration.record import Progress
from adapterbank.calibration.tasks import Setting, tasks_of
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.options import Hint

KIND = "fisher"
Of = Annotated[
    Classes,
    Hint("expected: all classes by their probability; sampled: one drawn from it; given: the labels (the empirical Fisher)"),
]


def fisher(
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    classes: Of = "expected",
) -> tuple[Statistics, ...]:
    """One value of kind ``fisher`` per adapter: float32 ``[d_out, d_in]`` for every module that any of the adapters changes.

    The setting's tasks are those of the adapters, in their order. A model that answers at every token needs ``sampled`` or
    ``given``; its labels must lie beside the logits that predict them. ``progress`` is told (adapters done, adapters in all).
    Raises UsageError for tasks that do not fit, and IncompatibleError for adapters that do not fit the model.
    """
    tasks = tasks_of(setting, names)
    found = places(setting.model, adapters)
    results = []
    for name, adapter, task in zip(names, adapters, tasks, strict=True):
        sums = {place.name: torch.zeros(place.d_out, place.d_in, dtype=torch.float64, device=place.device) for place in found}
        draw = torch.Generator().manual_seed(seed)
        with attached(setting.model, [adapter], torch.ones(1, len(adapter.modules))):
            examples = score_gradients(setting, task, found, classes, draw, partial(_count, sums))
        tensors = {module: (total / examples).float().cpu() for module, total in sums.items()}
        about = {"classes": classes, "examples": examples, "seed": seed}
        results.append(Statistics(KIND, name, tensors, {module: module for module in tensors}, about))
        if progress is not None:
            progress(len(results), len(adapters))
    return tuple(results)


def _count(sums: Mapping[str, Tensor], place: Place, calls: Sequence[Call]) -> None:
    add_squares(sums[place.name], place, calls)


def add_squares(total: Tensor, place: Place, calls: Sequence[Call]) -> None:
    """Add ``Σ_n g_n²`` to ``total [d_out, d_in]``, g_n the gradient of example n summed over its tokens and the calls."""
    x, dy = (torch.cat(parts, dim=1) for parts in zip(*calls, strict=True))
    if place.is_embedding:
        _add_looked_up(total, x, dy)
        return
    part = torch.zeros(total.shape, dtype=dy.dtype, device=dy.device)
    for inputs, gradients in zip(x, dy, strict=True):  # one at a time, which stays in the cache
        g = gradients.T @ inputs
        part.addcmul_(g, g)
    total += part


def _add_looked_up(total: Tensor, tokens: Tensor, dy: Tensor) -> None:
    """The same for an embedding, whose gradient is zero but in the columns of an example's tokens."""
    for own, gradients in zip(tokens, dy, strict=True):
        columns, where = own.unique(return_inverse=True)
        g = torch.zeros(len(columns), dy.shape[2], dtype=dy.dtype, device=dy.device).index_add_(0, where, gradients)
        total[:, columns] += g.square().T.to(total.dtype)
