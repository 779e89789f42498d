"""Fitting a whole collection into tensors that lie in mapped files: place by place, row block by row block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.linalg.workers import share_out
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.gauge import Frame, frame_onto
from adapterbank.lora.layout import Layout
from adapterbank.rmm.basis import most_components, principal, project
from adapterbank.rmm.objects import EXTRA, Basis
from adapterbank.rmm.places import Place, Progress, places, shifted, told


def fit_collection(
    adapters: Sequence[Adapter],
    layout: Layout,
    basis: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    gauge: str,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Fit ``adapters`` and fill ``basis`` and ``members``, the tensors of a ``basis_plan`` and one ``member_plan`` each.

    Means and components are computed in float64 and rounded once to the dtype of the tensors; coefficients are then the least
    squares on what was stored, so its rounding is compensated. Modules are shared out to threads; each holds a few row
    blocks, whatever the size of the adapters. ``progress`` is told (rows done, rows in all). Raises UsageError where a value
    does not fit float16.
    """
    for adapter, member in zip(adapters, members, strict=True):
        _store_extras(adapter, member)

    def task(place: Place) -> int:
        _fit_place(place, basis, members, gauge, device)
        return place.shape.rows

    share_out(task, places(adapters, layout), told(progress, sum(shape.rows for shape in layout)))


def project_adapter(adapter: Adapter, basis: Basis, member: Mapping[str, Tensor]) -> None:
    """Project one adapter on a frozen basis and fill ``member``, the tensors of its ``member_plan``.

    In gauge ``procrustes`` each module is first turned onto the basis's mean. Raises IncompatibleError for a module, or a
    rank of one, that the basis has no place for.
    """
    check_places(adapter, basis.layout)
    _store_extras(adapter, member)
    for place in places([adapter], basis.layout):
        rank = place.shape.rank
        mean, components = basis.mean[rank][place.rows], basis.components[rank][:, place.rows]
        frame = frame_onto(place.factors[0], basis.gauge, mean)
        for rows, stack in place.blocks([frame]):
            found = project(stack[0], mean[rows], components[:, rows])
            _store(member[f"coefficients.{rank}"], shifted(rows, place.own_rows[0].start), found)


def _fit_place(
    place: Place, basis: Mapping[str, Tensor], members: Sequence[Mapping[str, Tensor]], gauge: str, device: torch.device | str
) -> None:
    rank = place.shape.rank
    held: list[Frame] = place.frames(gauge)
    mean, components = basis[f"mean.{rank}"], basis[f"components.{rank}"]
    coefficients = [members[index][f"coefficients.{rank}"] for index in place.holders]
    p = min(len(components), most_components(len(place.holders), rank))
    for rows, host_stack in place.blocks(held):
        stack, at = host_stack.to(device), shifted(rows, place.rows.start)
        found = principal(stack, len(components))
        _store(mean, at, found.mean)
        _store(components, (slice(None), at), found.components)
        stored = [part.to(device) for part in (mean[at], components[:p, at])]
        solved = torch.nn.functional.pad(project(stack, *stored), (0, len(components) - p))
        for target, own, of_one in zip(coefficients, place.own_rows, solved, strict=True):
            _store(target, shifted(rows, own.start), of_one)


def _store_extras(adapter: Adapter, member: Mapping[str, Tensor]) -> None:
    for key, tensor in adapter.extras.items():
        member[f"{EXTRA}{key}"].copy_(tensor)


def _store(target: Tensor, at: slice | tuple[slice, slice], values: Tensor) -> None:
    target[at] = values.to(target.dtype)
    if target.dtype == torch.float16 and not bool(target[at].isfinite().all()):
        raise UsageError("a value does not fit float16 (65504 at most)", hint="store bfloat16 or float32")


def check_places(adapter: Adapter, layout: Layout) -> None:
    """Raise IncompatibleError for a module of ``adapter``, or a rank of one, that ``layout`` has no place for."""
    known = set(layout)
    missing = [shape for shape in adapter.shapes if shape not in known]
    if missing:
        first = missing[0]
        ranks = sorted(shape.rank for shape in known if shape.name == first.name)
        known_at = f"where the basis has ranks {ranks}" if ranks else "which no member of the basis has"
        raise IncompatibleError(
            f"{len(missing)} of {len(adapter.modules)} modules have no place in the basis: {first.name!r} of rank "
            f"{first.rank}, {known_at}",
            hint="adapterbank basis rebuild makes a basis that has one",
        )
