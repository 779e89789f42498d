"""A basis and its members as values, and as objects on disk (the format of ``container.py``).

A basis object holds, for every rank class c, ``mean.<rank>`` ``[D_c, r_c]`` and ``components.<rank>`` ``[p_c, D_c, r_c]``. A
member object holds ``coefficients.<rank>`` ``[rows, p_c]`` for the rows of the modules that the member has, in the order of its
own layout, and the digest of its basis; and as ``extra.<key>``, verbatim, each tensor of the adapter that is no LoRA factor.
Both are self-describing: their metadata carries the layout.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adapterbank.container import Plan, TensorSpec, plan
from adapterbank.errors import IncompatibleError, IntegrityError, UsageError
from adapterbank.lora.gauge import check_gauge
from adapterbank.lora.layout import Layout, ModuleShape
from adapterbank.rmm.basis import most_components

BASIS, MEMBER, FORMAT = "rmm.basis", "rmm.member", 1
STORE_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
NO_DIGEST = "0" * 64
EXTRA = "extra."


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What members share. ``mean`` and ``components`` are by rank; ``p`` is the number of components asked for.

    A rank class has p_c = min(p, r_c, n_c − 1) components, n_c being the most members that hold one of its modules; where a
    module is held by fewer, the components beyond are zero.
    """

    layout: Layout
    gauge: str
    p: int
    dtype: str
    mean: Mapping[int, Tensor]
    components: Mapping[int, Tensor]

    @classmethod
    def from_object(cls, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Basis:
        """The basis in an object as ``container.read`` gives it; IntegrityError if it is none, or a later format."""
        layout, p, dtype = _common(metadata, BASIS)
        mean = {block.rank: _tensor(tensors, f"mean.{block.rank}", (block.rows, block.rank)) for block in layout.classes}
        parts = {block.rank: _tensor(tensors, f"components.{block.rank}", (None, block.rows, block.rank))
                 for block in layout.classes}  # fmt: skip
        return cls(layout, check_gauge(metadata["gauge"]), p, dtype, mean, parts)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One adapter on a basis: ``layout`` lists the modules it has, ``absent`` the names of the basis's modules it lacks.

    ``extras`` are the adapter's own, by their keys.
    """

    basis: str
    layout: Layout
    absent: tuple[str, ...]
    dtype: str
    coefficients: Mapping[int, Tensor]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_object(cls, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], basis: str) -> Member:
        """The member in an object; IntegrityError if it is none, or belongs to another basis than the digest ``basis``."""
        layout, _, dtype = _common(metadata, MEMBER)
        if metadata["basis"] != basis:
            raise IntegrityError(f"a member of basis sha256:{metadata['basis']} was read with basis sha256:{basis}")
        found = {block.rank: _tensor(tensors, f"coefficients.{block.rank}", (block.rows, None)) for block in layout.classes}
        extras = {name.removeprefix(EXTRA): tensor for name, tensor in tensors.items() if name.startswith(EXTRA)}
        return cls(basis, layout, tuple(metadata["absent"]), dtype, found, dict(sorted(extras.items())))


def class_components(layout: Layout, collections: Iterable[Iterable[ModuleShape]], p: int) -> dict[int, int]:
    """p_c for every rank of ``layout``, from the shapes of each member's modules."""
    holders = Counter(shape for shapes in collections for shape in shapes)
    most = {block.rank: max(holders[shape] for shape in block.modules) for block in layout.classes}
    return {rank: min(p, most_components(count, rank)) for rank, count in most.items()}


def basis_plan(layout: Layout, components: Mapping[int, int], *, p: int, gauge: str, dtype: str = "float32") -> Plan:
    """The object of a basis to come, ``components`` being p_c by rank (:func:`class_components`)."""
    item = _item(dtype)
    specs = []
    for block in layout.classes:
        specs.append(TensorSpec(f"mean.{block.rank}", item, (block.rows, block.rank)))
        specs.append(TensorSpec(f"components.{block.rank}", item, (components[block.rank], block.rows, block.rank)))
    return plan(specs, _metadata(BASIS, layout, p, dtype) | {"gauge": check_gauge(gauge)})


def member_plan(
    layout: Layout,
    own: Layout,
    components: Mapping[int, int],
    *,
    p: int,
    dtype: str = "float32",
    basis: str = NO_DIGEST,
    extras: Mapping[str, Tensor] | None = None,
) -> Plan:
    """The object of a member to come whose own modules are ``own``, with a place for each of ``extras``.

    Size and offsets do not depend on the digest ``basis``: coefficients may be written before it is known, the header after.
    """
    specs = [TensorSpec(f"coefficients.{c.rank}", _item(dtype), (c.rows, components[c.rank])) for c in own.classes]
    specs += [TensorSpec.like(f"{EXTRA}{key}", tensor) for key, tensor in (extras or {}).items()]
    names = {shape.name for shape in own}
    absent = sorted({shape.name for shape in layout} - names)
    return plan(specs, _metadata(MEMBER, own, p, dtype) | {"basis": basis, "absent": absent})


def common_layout(collections: Sequence[Sequence[ModuleShape]], names: Sequence[str]) -> Layout:
    """The layout of a collection of adapters called ``names``.

    Raises IncompatibleError if two of them share fewer than half of the modules of the smaller one, or have a module in
    different shapes; the message has both lists.
    """
    distinct: dict[frozenset[str], str] = {}
    for shapes, name in zip(collections, names, strict=True):
        own = frozenset(shape.name for shape in shapes)
        for other, first in distinct.items():
            if 2 * len(own & other) < min(len(own), len(other)):
                raise IncompatibleError(
                    f"{first} and {name} have {len(own & other)} modules in common, fewer than half of either: "
                    f"{first} has {', '.join(sorted(other))}; {name} has {', '.join(sorted(own))}",
                    details={first: sorted(other), name: sorted(own)},
                )
        distinct.setdefault(own, name)
    return Layout.union(collections)


def _metadata(kind: str, layout: Layout, p: int, dtype: str) -> dict[str, Any]:
    return {"kind": kind, "format": FORMAT, "layout": json.loads(layout.to_json()), "components": p, "dtype": dtype}


def _common(metadata: Mapping[str, Any], kind: str) -> tuple[Layout, int, str]:
    if metadata.get("kind") != kind or metadata.get("format") != FORMAT:
        found = f"{metadata.get('kind')!r} of format {metadata.get('format')!r}"
        raise IntegrityError(f"object is {found}, expected {kind!r} of format {FORMAT}")
    return Layout.from_json(json.dumps(metadata["layout"])), int(metadata["components"]), str(metadata["dtype"])


def _tensor(tensors: Mapping[str, Tensor], name: str, shape: tuple[int | None, ...]) -> Tensor:
    """The tensor ``name`` if it has this shape, None standing for any size."""
    found = tensors.get(name)
    size = None if found is None else tuple(found.shape)
    if (
        found is None
        or len(found.shape) != len(shape)
        or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True))
    ):
        raise IntegrityError(f"object lacks tensor {name!r}: expected shape {shape}, got {size}")
    return found


def _item(dtype: str) -> str:
    if dtype not in STORE_DTYPES:
        raise UsageError(f"store dtype {dtype!r} does not exist: expected one of {', '.join(STORE_DTYPES)}")
    return STORE_DTYPES[dtype]
