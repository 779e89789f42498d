"""The ΔW error of real adapters in every form whose switch is timed, and what each takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.lora.layout import Layout
from adapterbank.serving import kernels
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter
from adapterbank.serving.slots import SlotLayout
from benchmarks.serving.llamas import COMPONENTS, STORES

ERRORS = {"small": 0.6, "balanced": 0.35, "high": 0.1}  # of the whole adapter, as `encode --quality` promises
_BASIS = "0" * 64


def measure(data: Path, family: str = "r16", say: Callable[[str], None] = print) -> Iterator[dict[str, Any]]:
    """A row for each form: the mean error of the family's adapters, and mean bits per parameter of what is its own."""
    from benchmarks.rate_distortion.families import real

    adapters = list(real(data, family).adapters.values())
    layout = SlotLayout.of(shape for adapter in adapters for shape in adapter.shapes)
    for name, make in _forms(adapters, layout).items():
        say(f"{family}: error of {name}")
        packed = make()
        errors = [delta_error(adapter, _written(one)).total for adapter, one in zip(adapters, packed, strict=True)]
        bits = sum(8 * one.nbytes for one in packed) / sum(adapter.parameters for adapter in adapters)
        yield {"case": "error", "family": family, "form": name, "error": sum(errors) / len(errors), "bits_per_parameter": bits}


def _forms(adapters: list[Adapter], layout: SlotLayout) -> dict[str, Callable[[], list[Packed]]]:
    found: dict[str, Callable[[], list[Packed]]] = {}
    for store in STORES:
        found[f"raw {store}"] = lambda store=store: [RawAdapter.of(each, layout, store) for each in adapters]
        for p in COMPONENTS:
            found[f"rmm p={p} {store}"] = lambda p=p, store=store: _over_basis(adapters, layout, p, store)
    for quality, error in ERRORS.items():
        found[f"fixed {quality}"] = lambda error=error: _coded(adapters, layout, error)
    return found


def _over_basis(adapters: list[Adapter], layout: SlotLayout, p: int, store: str) -> list[Packed]:
    """The basis in bfloat16, fitted in the Procrustes gauge, as resident."""
    from adapterbank.rmm.collection import fit_collection
    from adapterbank.rmm.objects import Basis, Member, basis_plan, class_components, member_plan

    union = Layout.union(adapter.shapes for adapter in adapters)
    components = class_components(union, [adapter.shapes for adapter in adapters], p)
    plans = [basis_plan(union, components, p=p, gauge="procrustes", dtype="bfloat16")]
    plans += [member_plan(adapter, union, components, p=p, dtype="bfloat16", basis=_BASIS) for adapter in adapters]
    filled = [{spec.name: torch.zeros(spec.shape, dtype=spec.dtype) for spec in plan.specs} for plan in plans]
    fit_collection(adapters, union, filled[0], filled[1:], gauge="procrustes")
    made = Basis.from_object(plans[0].metadata, filled[0])
    resident = ResidentBasis.of(made, layout, store)
    members = [Member.from_object(plan.metadata, one, _BASIS) for plan, one in zip(plans[1:], filled[1:], strict=True)]
    return [RmmAdapter.of(member, resident) for member in members]


def _coded(adapters: list[Adapter], layout: SlotLayout, error: float) -> list[Packed]:
    from adapterbank.codecs import fixed
    from adapterbank.codecs.target import Target

    coded = (fixed.read(fixed.encode(adapter, Target(max_error=error)).data) for adapter in adapters)
    return [FixedAdapter.of(form, layout) for form in coded]


def _written(packed: Packed) -> Adapter:
    out = torch.zeros(packed.layout.size)
    kernels.write([packed], [out])
    return Adapter(packed.layout.views(out))
