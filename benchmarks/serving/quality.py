"""The ΔW error of real adapters in every form whose switch is timed, and what each takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.rmm.objects import Basis, Member
from adapterbank.serving import kernels
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter
from adapterbank.serving.slots import SlotLayout
from benchmarks.serving.llamas import COMPONENTS, STORES

ERRORS = {"small": 0.6, "balanced": 0.35, "high": 0.1}  # of the whole adapter, as `encode --quality` promises


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
    from benchmarks.baselines.reversible import fitted

    found: dict[str, Callable[[], list[Packed]]] = {}
    over = cache(lambda p: fitted(adapters, p, "procrustes", torch.bfloat16))
    for store in STORES:
        found[f"raw {store}"] = lambda store=store: [RawAdapter.of(each, layout, store) for each in adapters]
    for p in COMPONENTS:
        for store in STORES:
            found[f"rmm p={p} {store}"] = lambda p=p, store=store: _over_basis(*over(p), layout, store)
    for quality, error in ERRORS.items():
        found[f"fixed {quality}"] = lambda error=error: _coded(adapters, layout, error)
    return found


def _over_basis(basis: Basis, members: list[Member], layout: SlotLayout, store: str) -> list[Packed]:
    resident = ResidentBasis.of(basis, layout, store)
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
