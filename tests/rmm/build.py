"""A basis and its members in memory, made the way the bank makes them: plans, tensors in buffers, one fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adapterbank import container
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta
from adapterbank.lora.layout import Layout
from adapterbank.rmm.collection import fit_collection
from adapterbank.rmm.members import reconstruct_adapter, stored_error
from adapterbank.rmm.objects import NO_DIGEST, Basis, Member, basis_plan, class_components, common_layout, member_plan


@dataclass
class Built:
    adapters: list[Adapter]
    basis: Basis
    members: list[Member]
    bytes: int

    def back(self) -> list[Adapter]:
        return [reconstruct_adapter(self.basis, member) for member in self.members]

    def deltas(self) -> list[dict[str, np.ndarray]]:
        return [{name: delta(f).numpy() for name, f in a.modules.items()} for a in self.back()]

    def errors(self) -> list[float]:
        return [stored_error(a, self.basis, m).total for a, m in zip(self.adapters, self.members, strict=True)]


def blank(plan: container.Plan) -> bytearray:
    return bytearray(plan.header.ljust(plan.size, b"\0"))


def build(adapters: list[Adapter], p: int, gauge: str = "given", dtype: str = "float32") -> Built:
    shapes = [adapter.shapes for adapter in adapters]
    layout = common_layout(shapes, [f"adapter{i}" for i in range(len(shapes))])
    components = class_components(layout, shapes, p)
    plan = basis_plan(layout, components, p=p, gauge=gauge, dtype=dtype)
    plans = [member_plan(layout, Layout.of(own), components, p=p, dtype=dtype) for own in shapes]
    data, member_data = blank(plan), [blank(of_one) for of_one in plans]
    targets = [container.tensors(buffer, of_one) for buffer, of_one in zip(member_data, plans, strict=True)]
    fit_collection(adapters, layout, container.tensors(data, plan), targets, gauge=gauge)
    members = [Member.from_object(*container.read(buffer), NO_DIGEST) for buffer in member_data]
    return Built(adapters, Basis.from_object(*container.read(data)), members, plan.size + sum(of_one.size for of_one in plans))
