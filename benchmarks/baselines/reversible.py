"""Reversible Model Merging as published (arXiv 2510.14163), through ``adapterbank.rmm``, float16; with p = 0 the mean alone."""

from __future__ import annotations

import torch

from adapterbank.lora.layout import Layout
from adapterbank.rmm.collection import fit_collection
from adapterbank.rmm.members import reconstruct_adapter
from adapterbank.rmm.objects import NO_DIGEST, Basis, Member, class_components
from benchmarks.baselines.collection import HALF, Collection, Form


def reversible(collection: Collection, components: int, gauge: str) -> Form:
    """Mean and ``components`` shared directions at every row, and each adapter's coefficients."""
    shapes = [adapter.shapes for adapter in collection.given]
    layout = Layout.union(shapes)
    counts = class_components(layout, shapes, components)
    shared: dict[str, torch.Tensor] = {}
    for block in layout.classes:
        shared[f"mean.{block.rank}"] = torch.empty(block.rows, block.rank, dtype=torch.float16)
        shared[f"components.{block.rank}"] = torch.empty(counts[block.rank], block.rows, block.rank, dtype=torch.float16)
    own = [{f"coefficients.{c.rank}": torch.empty(c.rows, counts[c.rank], dtype=torch.float16) for c in layout.classes}
           for _ in shapes]  # fmt: skip
    fit_collection(collection.given, layout, shared, own, gauge=gauge)
    stored = sum(tensor.numel() for tensors in (shared, *own) for tensor in tensors.values())
    mean, parts = ({c.rank: shared[f"{part}.{c.rank}"] for c in layout.classes} for part in ("mean", "components"))
    basis = Basis(layout, gauge, components, "float16", mean, parts)
    members = [
        Member(NO_DIGEST, layout, (), "float16", {c.rank: one[f"coefficients.{c.rank}"] for c in layout.classes}) for one in own
    ]
    return Form(tuple(reconstruct_adapter(basis, member, dtype=torch.float64) for member in members), HALF * stored)
