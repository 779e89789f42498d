"""Small adapters, a basis over them and their fixed-width forms, for tests of what is resident."""

from __future__ import annotations

import torch

from adapterbank.codecs import fixed
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.layout import Layout
from adapterbank.rmm.objects import Basis, Member

DIMS = {"layers.0.q_proj": (40, 24), "layers.0.down_proj": (24, 70), "layers.1.q_proj": (40, 24)}
RANKS = {"layers.0.q_proj": 4, "layers.0.down_proj": 3, "layers.1.q_proj": 4}


def adapter(seed: int, *, skip: tuple[str, ...] = (), ranks: dict[str, int] | None = None, scaling: float = 1.5) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    modules = {}
    for name, (d_out, d_in) in DIMS.items():
        rank = (ranks or RANKS)[name]
        A, B = torch.randn(rank, d_in, generator=draw) / d_in**0.5, torch.randn(d_out, rank, generator=draw)
        if name not in skip:
            modules[name] = Factors(A=A, B=B, scaling=scaling)
    return Adapter(modules)


def basis(adapters: list[Adapter], p: int, dtype: torch.dtype = torch.bfloat16) -> tuple[Basis, list[Member]]:
    """Random mean, components and coefficients on the layout of ``adapters``: what serves them does not ask for a fit."""
    draw = torch.Generator().manual_seed(99)
    layout = Layout.union(each.shapes for each in adapters)
    mean = {block.rank: torch.randn(block.rows, block.rank, generator=draw).to(dtype) for block in layout.classes}
    parts = {
        block.rank: torch.randn(min(p, block.rank), block.rows, block.rank, generator=draw).to(dtype)
        for block in layout.classes
    }
    members = []
    for each in adapters:
        own = Layout.of(each.shapes)
        found = {c.rank: torch.randn(c.rows, len(parts[c.rank]), generator=draw).to(dtype) for c in own.classes}
        absent = tuple(sorted({shape.name for shape in layout} - {shape.name for shape in own}))
        members.append(Member("0" * 64, own, absent, str(dtype), found))
    return Basis(layout, "given", p, str(dtype), mean, parts), members


def fixed_form(value: Adapter, max_error: float = 0.4) -> fixed.FixedForm:
    return fixed.read(fixed.encode(value, Target(max_error=max_error)).data)
