"""From the bytes of a coded adapter to its factors: integers throughout, and one rounding to float32 at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterbank import container
from adapterbank.codecs import choices as choices_section
from adapterbank.codecs import form, payload
from adapterbank.codecs.choices import Choice
from adapterbank.codecs.classes import root
from adapterbank.codecs.prediction import DIFFERENCE, ROWS, Rows, side_by_side
from adapterbank.codecs.tables import FINE
from adapterbank.codecs.trellis import trellis
from adapterbank.errors import IntegrityError, NotFoundError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.layout import ModuleShape

_LARGEST_EXTRAS = 1 << 36

Ints = NDArray[np.int64]
Points = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One module decoded: points in Δ/64 of the kept components, ``x [L, d_out]`` and ``y [L, d_in]``, and their scales
    ``[L]``.
    """

    shape: ModuleShape
    choice: Choice
    x: Points
    y: Points
    scales: NDArray[np.float32]

    @property
    def rows(self) -> Rows:
        """Its right vectors, to predict another adapter's from."""
        return Rows.of(self.y.astype(np.int64), self.choice.gains)

    @property
    def factors(self) -> Factors:
        """Float32 factors of scaling 1 and of rank L, components of equal length on both sides; L = 0 gives one of zeros."""
        x, y = (torch.from_numpy(points.astype(np.float32) * self.scales[:, None]) for points in (self.x, self.y))
        if not len(x):
            zero = torch.zeros(1, 1)  # seen many times over: a module of any size takes no memory
            return Factors(
                zero.expand(1, self.shape.d_in), zero.expand(self.shape.d_out, 1), 1.0, self.shape.kind, self.shape.kernel
            )
        return Factors(y, x.T.contiguous(), 1.0, self.shape.kind, self.shape.kernel)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """All modules of one object by name, and the tensors that are no LoRA factor."""

    modules: Mapping[str, Part]
    references: tuple[str, ...]
    extras: Mapping[str, Tensor]


def parts(data: Any, references: Mapping[str, Any] | None = None) -> Parts:
    """Decode an object. Raises IntegrityError for damaged bytes, NotFoundError if it needs one that is not among
    ``references``.
    """
    taken = form.read(data)
    chosen = choices_section.read(taken.sections.choices, [shape.rank for shape in taken.shapes])
    rows = _rows(taken, chosen, references or {})
    sizes, classes = vectors(taken.shapes, chosen, rows)
    try:
        points = payload.read(taken.sections.payload, sizes, classes, trellis(taken.states))
    except (MemoryError, OverflowError, IndexError, ValueError) as reason:
        if isinstance(reason, IntegrityError):
            raise
        raise IntegrityError(f"coded adapter: its samples cannot be read: {reason}") from None
    modules, at = {}, 0
    for shape, choice, own in zip(taken.shapes, chosen, rows, strict=True):
        modules[shape.name], at = _part(shape, choice, own, points, at, taken.root_step)
    return Parts(modules, taken.references, _extras(taken.sections.extras))


def needed(data: Any, references: Mapping[str, Any] | None) -> tuple[Parts, ...]:
    """The decoded references of an object, in their order. Raises as :func:`parts`."""
    return tuple(_referred(form.read(data).references, references or {}))


def vectors(shapes: Sequence[ModuleShape], chosen: Sequence[Choice], rows: Sequence[Rows | None]) -> tuple[Ints, Ints]:
    """Sizes and classes of all vectors in the order of the payload."""
    sizes: list[int] = []
    classes: list[int] = []
    for shape, choice, own in zip(shapes, chosen, rows, strict=True):
        sizes += choice.sizes(shape.d_out, shape.d_in, 0 if own is None else len(own.points))
        classes += choice.classes(shape.d_out, shape.d_in)
    return np.array(sizes, np.int64), np.array(classes, np.int64)


def adapter(decoded: Parts, known: Sequence[Parts], base_model: str | None) -> Adapter:
    """The adapter of decoded parts; a module coded as a difference stands beside that of the first reference."""
    modules = {}
    for name, part in decoded.modules.items():
        own = part.factors
        if part.choice.kind == DIFFERENCE:
            other = known[0].modules.get(name) if known else None
            if other is None or (other.shape.d_out, other.shape.d_in) != (part.shape.d_out, part.shape.d_in):
                raise IntegrityError(f"coded adapter: its reference has no module {name!r} of {own.d_out}×{own.d_in}")
            own = side_by_side(other.factors, own)
        modules[name] = own
    return Adapter(modules, base_model, decoded.extras)


def joined_rows(known: Sequence[Parts], name: str, d_in: int) -> Rows | None:
    """The right vectors that the references have of a module, one after the other; None if they have none of this length."""
    found = [
        part.rows for each in known if (part := each.modules.get(name)) is not None and part.shape.d_in == d_in and len(part.y)
    ]
    if not found:
        return None
    return Rows(np.concatenate([rows.points for rows in found]), np.concatenate([rows.multipliers for rows in found]))


def _referred(digests: Sequence[str], references: Mapping[str, Any]) -> Iterator[Parts]:
    """A reference may need only those that are named before it, so that there is no circle and nothing else to be found."""
    for place, digest in enumerate(digests):
        if digest not in references:
            raise NotFoundError(f"a coded adapter needs the object sha256:{digest}, which was not given")
        if not set(form.read(references[digest]).references) <= set(digests[:place]):
            raise IntegrityError(f"coded adapter: its reference sha256:{digest} needs another that it does not name")
        yield parts(references[digest], references)


def _rows(taken: form.Form, chosen: Sequence[Choice], references: Mapping[str, Any]) -> list[Rows | None]:
    if all(choice.kind != ROWS for choice in chosen):
        return [None] * len(chosen)
    known = list(_referred(taken.references, references))
    found = []
    for shape, choice in zip(taken.shapes, chosen, strict=True):
        rows = joined_rows(known, shape.name, shape.d_in) if choice.kind == ROWS else None
        if choice.kind == ROWS and rows is None:
            raise IntegrityError(f"coded adapter: its references have no rows for module {shape.name!r}")
        found.append(rows)
    return found


def _part(
    shape: ModuleShape, choice: Choice, rows: Rows | None, points: NDArray[np.int32], at: int, root_step: float
) -> tuple[Part, int]:
    """One module from the points that begin at ``at``, and where the next one's begin."""
    live = len(choice.gains)
    x, at = points[at : at + live * shape.d_out].reshape(live, shape.d_out), at + live * shape.d_out
    known: Ints | int = 0
    if rows is not None:
        width = len(rows.points)
        few, at = points[at : at + live * width].reshape(live, width).astype(np.int64), at + live * width
        known = rows.combined(few, choice.rest_classes)
    y, at = points[at : at + live * shape.d_in].reshape(live, shape.d_in) + known, at + live * shape.d_in
    scales = [np.float32(float(np.float32(root_step)) * root(int(gain)) / FINE) for gain in choice.gains]
    return Part(shape, choice, x, y, np.array(scales, np.float32)), at


def _extras(data: bytes) -> dict[str, Tensor]:
    if not data:
        return {}
    try:
        _, tensors = container.read(bytearray(form.unpacked(data, _LARGEST_EXTRAS)))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError) as reason:
        raise IntegrityError(f"coded adapter: its other tensors cannot be read: {reason}") from None
    return dict(sorted(tensors.items()))
