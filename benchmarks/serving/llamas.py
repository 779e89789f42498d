"""The layouts of Llamas, and resident adapters for them with random numbers: a kernel's time does not depend on them.

A fixed-width adapter has so many components in every module, of such widths, as the collection ``r16`` keeps at that quality:
the measured means of its adapters, of which ``quality`` measures error and size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.lora.layout import ModuleShape
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.groups import GROUP
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter, Segment, alignment, apart
from adapterbank.serving.slots import SlotLayout

SIZES = {  # hidden, inner, of keys and values, layers
    "1B": (2048, 8192, 512, 16),
    "8B": (4096, 14336, 1024, 32),
    "70B": (8192, 28672, 1024, 80),
}
QUALITIES = {"small": (0.12, 2.5), "balanced": (0.39, 2.8), "high": (0.92, 3.9)}  # share of components kept, bits of a code
COMPONENTS = (2, 4, 8)
STORES = ("bfloat16", "int8", "int4")
_RANDOM = 1 << 20


def shapes(size: str, rank: int, layers: int | None = None) -> list[ModuleShape]:
    """All linear layers."""
    hidden, inner, kv, depth = SIZES[size]
    linear = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    return [
        ModuleShape(f"model.layers.{i}.{name}", d_out, d_in, rank)
        for i in range(layers or depth)
        for name, (d_out, d_in) in linear.items()
    ]


@dataclass(frozen=True, slots=True)
class Form:
    """``adapters`` of one form on a device; ``shared`` and ``own`` bytes; ``moved`` are those that one write must move."""

    name: str
    adapters: tuple[Packed, ...]
    shared: int
    own: int
    moved: int
    parameters: int

    def resident(self, count: int) -> int:
        """Bytes for so many adapters."""
        return self.shared + count * self.own


Maker = Callable[[SlotLayout, torch.device, int], Form]


def forms() -> dict[str, Maker]:
    """How each form is made: for a layout, a device, and so many different adapters."""
    found: dict[str, Maker] = {f"raw {store}": _raw(store) for store in STORES}
    found |= {f"rmm p={p} {store}": _rmm(p, store) for p in COMPONENTS for store in STORES}
    return found | {f"fixed {quality}": _fixed(*numbers) for quality, numbers in QUALITIES.items()}


def needs(name: str, layout: SlotLayout) -> int:
    """Bytes of what all adapters share, before it is made."""
    if not name.startswith("rmm"):
        return 0
    _, p, store = name.split()
    return int((1 + int(p[2:])) * layout.size * {"bfloat16": 2, "int8": 1, "int4": 0.5}[store])


def numbers(dtype: str, *size: int) -> Tensor:
    """Random numbers that repeat."""
    count = 1
    for each in size:
        count *= each
    draw = torch.Generator().manual_seed(count % 1009)
    block = (
        torch.randint(-127, 128, (_RANDOM,), generator=draw, dtype=torch.int8).view(
            torch.uint8 if dtype == "int4" else torch.int8
        )
        if dtype in ("int8", "int4")
        else torch.randn(_RANDOM, generator=draw).to(getattr(torch, dtype))
    )
    return block.repeat(-(-count // _RANDOM))[:count].view(size)


def _rmm(p: int, store: str) -> Maker:
    def make(layout: SlotLayout, device: torch.device, count: int) -> Form:
        table, segments, rows, width = _table(layout, store)
        place = lambda tensor: tensor.to(device)  # noqa: E731
        scales = numbers("bfloat16", rows // GROUP, 1 + p, GROUP) if store in ("int8", "int4") else None
        basis = ResidentBasis(layout, store, tuple(segments), apart(numbers(store, 1 + p, width)), scales).moved(place)
        adapters = tuple(
            RmmAdapter(
                basis,
                numbers("bfloat16", rows // GROUP, p, GROUP),
                torch.tensor(table),
                layout.places[0].whole.rank,
                alignment(table),
            ).moved(place)
            for _ in range(count)
        )
        own = adapters[0].nbytes
        return Form(f"rmm p={p} {store}", adapters, basis.nbytes, own, basis.nbytes + own, layout.size)

    return make


def _raw(store: str) -> Maker:
    def make(layout: SlotLayout, device: torch.device, count: int) -> Form:
        table, _, rows, width = _table(layout, store)
        scales = numbers("bfloat16", rows + GROUP - 1) if store in ("int8", "int4") else None
        rank = layout.places[0].whole.rank
        one = RawAdapter(layout, store, numbers(store, width), scales, torch.tensor(table), rank, alignment(table))
        adapters = tuple(one.moved(lambda tensor: tensor.clone().to(device)) for _ in range(count))
        return Form(f"raw {store}", adapters, 0, one.nbytes, one.nbytes, layout.size)

    return make


def _fixed(share: float, bits: float) -> Maker:
    def make(layout: SlotLayout, device: torch.device, count: int) -> Form:
        one = _codes(layout, share, bits)
        adapters = tuple(one.moved(lambda tensor: tensor.clone().to(device)) for _ in range(count))
        return Form(f"fixed {share}", adapters, 0, one.nbytes, one.nbytes, layout.size)

    return make


def _table(layout: SlotLayout, store: str) -> tuple[list[list[int]], list[Segment], int, int]:
    table, segments, first, start = [], [], 0, 0
    for index, place in enumerate(layout):
        rows, rank = place.shape.rows, place.whole.rank
        segments.append(Segment(index, rank, rows, first, start))
        table.append([start, first, rank, first])
        first, start = first + rows, start + rows * (-(-rank // 2) if store == "int4" else rank)
    return table, segments, first, start


def _codes(layout: SlotLayout, share: float, bits: float) -> FixedAdapter:
    """Modules take turns so that the mean number of components and the mean width are the wanted ones."""
    table, pitches, widths, columns, begin, owed = [], [], [], [], 0, 0.0
    for place in layout:
        owed += share * place.whole.rank
        live, owed = int(owed), owed - int(owed)
        due = [int((len(widths) + k + 1) * bits) - int((len(widths) + k) * bits) for k in range(live)]
        entry, pitch = [len(widths), live], sum(due)
        for rows in (place.out, place.into):
            entry += [begin, 0]
            begin += -(-len(rows) // 32) * pitch
        columns += [sum(due[:k]) for k in range(live)]
        widths += due
        table.append(entry)
        pitches.append([pitch, pitch])
    words = numbers("int8", 4 * begin).view(torch.int32)
    both = torch.tensor(widths, dtype=torch.uint8).expand(2, -1).contiguous()
    return FixedAdapter(
        layout, words, both, torch.tensor(columns, dtype=torch.int32).expand(2, -1).contiguous(),
        numbers("bfloat16", 2, len(widths)), torch.tensor(table), torch.tensor(pitches), layout.places[0].whole.rank,
        max(widths, default=0),
    )  # fmt: skip
