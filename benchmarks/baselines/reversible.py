"""Reversible Model Merging as published (arXiv 2510.14163), through ``adapterbank.rmm``, float16; with p = 0 the mean alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterbank.lora.adapter import Adapter
from adapterbank.lora.layout import Layout
from adapterbank.rmm.collection import fit_collection
from adapterbank.rmm.members import reconstruct_adapter
from adapterbank.rmm.objects import NO_DIGEST, Basis, Member, class_components
from benchmarks.baselines.collection import HALF, Collection, Form


def fitted(adapters: Sequence[Adapter], p: int, gauge: str, dtype: torch.dtype) -> tuple[Basis, list[Member]]:
    """A basis of at most ``p`` components over ``adapters``, and their coefficients, all in ``dtype``."""
    shapes = [adapter.shapes for adapter in adapters]
    layout, name = Layout.union(shapes), str(dtype).removeprefix("torch.")
    counts = class_components(layout, shapes, p)
    shared: dict[str, torch.Tensor] = {}
    for block in layout.classes:
        shared[f"mean.{block.rank}"] = torch.empty(block.rows, block.rank, dtype=dtype)
        shared[f"components.{block.rank}"] = torch.empty(counts[block.rank], block.rows, block.rank, dtype=dtype)
    own = [{f"coefficients.{c.rank}": torch.empty(c.rows, counts[c.rank], dtype=dtype) for c in layout.classes}
           for _ in shapes]  # fmt: skip
    fit_collection(adapters, layout, shared, own, gauge=gauge)
    mean, parts = ({c.rank: shared[f"{part}.{c.rank}"] for c in layout.classes} for part in ("mean", "components"))
    members = [
        Member(NO_DIGEST, layout, (), name, {c.rank: one[f"coefficients.{c.rank}"] for c in layout.classes}) for one in own
    ]
    return Basis(layout, gauge, p, name, mean, parts), members


def reversible(collection: Collection, components: int, gauge: str) -> Form:
    """Mean and ``components`` shared directions at every row, and each adapter's coefficients."""
    basis, members = fitted(collection.given, components, gauge, torch.float16)
    held = [basis.mean, basis.components, *(member.coefficients for member in members)]
    stored = sum(tensor.numel() for tensors in held for tensor in tensors.values())
    return Form(tuple(reconstruct_adapter(basis, member, dtype=torch.float64) for member in members), HALF * stored)
