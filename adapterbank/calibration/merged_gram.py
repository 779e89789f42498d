"""Gram matrices behind merged layers, what RegMean++ (arXiv 2508.03121) needs.

Layer by layer: each adapter's task runs through the layers merged so far and then through this layer with that adapter; the
inputs seen there give ``G_i``; the layer is merged by RegMean from them; on to the next. A layer is what shares a module name
up to its first number (``encoder.layer.3``); other modules are layers of their own. The order is that in which the model calls
them. A pass stops where the next layer begins; earlier layers are computed again instead of keeping all hidden states, so that
any model will do: for n tasks and L layers n·(L + 1)/2 full passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from adapterbank.calibration.attached import attached, frozen
from adapterbank.calibration.gram import measure
from adapterbank.calibration.input_grams import InputGrams, PassEnded, watched
from adapterbank.calibration.places import Place, places
from adapterbank.calibration.record import Progress
from adapterbank.calibration.tasks import Setting, Task, tasks_of
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.least_squares import Ratio, Ridge, least_squares, ridged, shrunk

KIND = "gram_merged"
Layer = tuple[Place, ...]


def gram_merged(
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    reduce_non_diagonal_ratio: Ratio = 0.95,
    ridge: Ridge = 1e-6,
) -> tuple[Statistics, ...]:
    """One value of kind ``gram_merged`` per adapter, tensors as in :func:`~adapterbank.calibration.gram.gram`.

    All adapters weigh the same. The options are those of the merge, and are kept in ``about`` with the names of all adapters
    (``with``), because the matrices are right only for that merge. ``progress`` is told (layers done, layers in all). ``seed``
    is not used. Raises as :func:`~adapterbank.calibration.gram.gram`.
    """
    inputs = Inputs.of(adapters, [1.0] * len(adapters), names, seed)

    def merged(place: Place, grams: Mapping[str, InputGrams]) -> Factors:
        return _merge(inputs, place, grams, reduce_non_diagonal_ratio, ridge)

    grams = grams_behind(merged, setting, adapters, names, progress)
    about = {"with": sorted(names), "reduce_non_diagonal_ratio": reduce_non_diagonal_ratio, "ridge": ridge}
    stored = [grams[name].stored() for name in names]
    return tuple(Statistics(KIND, name, *each, about) for name, each in zip(names, stored, strict=True))


def grams_behind(
    merge: Callable[[Place, Mapping[str, InputGrams]], Factors],
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, InputGrams]:
    """By adapter the Gram matrices behind layers of which ``merge(place, what is known so far)`` makes each module."""
    tasks, found = tasks_of(setting, names), places(setting.model, adapters)
    grams = {name: InputGrams(found) for name in names}
    merged: dict[str, Factors] = {}
    layers = layers_in_order(setting, tasks[0], found)
    for done, layer in enumerate(layers):
        later = [place for other in layers[done + 1 :] for place in other]
        for name, adapter, task in zip(names, adapters, tasks, strict=True):
            candidate = _with_layer(merged, adapter, layer)
            with attached(setting.model, [candidate], torch.ones(1, len(candidate.modules))), watched(later, _stop):
                measure(setting, task, layer, grams[name])
        merged |= {place.name: merge(place, grams) for place in layer}
        if progress is not None:
            progress(done + 1, len(layers))
    return grams


def layers_in_order(setting: Setting, task: Task, found: Sequence[Place]) -> list[Layer]:
    """The adapted modules by layer, layers in the order of their first call in the task's first batch; uncalled ones last."""
    calls: list[str] = []
    with torch.no_grad(), frozen(setting.model), watched(found, lambda name, _: calls.append(name)):
        task.outputs(setting.model, task.batches[0])
    groups: dict[str, list[Place]] = {layer_of(name): [] for name in calls}
    for place in found:
        groups.setdefault(layer_of(place.name), []).append(place)
    return [tuple(group) for group in groups.values()]


def layer_of(module: str) -> str:
    """``encoder.layer.3`` of ``encoder.layer.3.output.dense``; a name without a number is a layer of its own."""
    match = re.match(r"(?:.*?\.)??\d+(?=\.|$)", module)
    return match[0] if match else module


def _stop(name: str, x: Tensor) -> None:
    raise PassEnded


def _with_layer(merged: Mapping[str, Factors], adapter: Adapter, layer: Layer) -> Adapter:
    own = {place.name: adapter.modules[place.name] for place in layer if place.name in adapter.modules}
    return Adapter({**merged, **own})


def _merge(inputs: Inputs, place: Place, grams: Mapping[str, InputGrams], ratio: float, ridge: float) -> Factors:
    stack = inputs.stack(place.name)
    measured = [shrunk(grams[name].of(place.name), ratio) for name in stack.names]
    result = least_squares(stack, ridged(measured, stack.weights, ridge))
    return Factors(A=result.right.T, B=result.left, kind=inputs.shapes[place.name].kind)
