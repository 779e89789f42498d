"""From the bytes of a coded adapter to its factors: integers throughout, and one rounding to float32 at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from adapterbank.codecs.payload import WIDEST
from adapterbank.codecs.prediction import NONE, REFINED, Components, Rows
from adapterbank.codecs.tables import FINE
from adapterbank.codecs.trellis import trellis
from adapterbank.errors import IntegrityError, NotFoundError
from adapterbank.lora.adapter import Factors
from adapterbank.lora.layout import ModuleShape

_LARGEST_EXTRAS = 1 << 36

Ints = NDArray[np.int64]
Points = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One module decoded: gain indices ``[L]`` of the kept components, their points in Δ/64, ``x [L, d_out]`` and
    ``y [L, d_in]``, and their scales ``[L]``.
    """

    shape: ModuleShape
    gains: Ints
    x: Points
    y: Points
    scales: NDArray[np.float32]

    @property
    def components(self) -> Components:
        """What another version's module may refine."""
        return Components(self.x.astype(np.int64), self.y.astype(np.int64), self.gains)

    @property
    def rows(self) -> Rows:
        """Its right vectors, to predict another adapter's from."""
        return Rows.of(self.y.astype(np.int64), self.gains)

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
    return _parts(taken, _referred(taken.references, references or {}))


def all_parts(objects: Mapping[str, Any]) -> dict[str, Parts]:
    """Every one of ``objects`` decoded, by digest; what they need is among them. Raises as :func:`parts`."""
    read = {digest: form.read(data) for digest, data in objects.items()}
    known: dict[str, Parts] = {}
    for digest, taken in sorted(read.items(), key=lambda pair: len(pair[1].references)):  # what it needs needs fewer
        known[digest] = _parts(taken, [known[each] for each in _checked(digest, taken.references, known)])
    return {digest: known[digest] for digest in objects}


def _parts(taken: form.Form, references: Sequence[Parts]) -> Parts:
    chosen = choices_section.read(taken.sections.choices, [shape.rank for shape in taken.shapes])
    known = _known(taken, chosen, references)
    sizes, classes = vectors(taken.shapes, chosen, known)
    try:
        points = payload.read(taken.sections.payload, sizes, classes, trellis(taken.states))
    except (MemoryError, OverflowError, IndexError, ValueError) as reason:
        if isinstance(reason, IntegrityError):
            raise
        raise IntegrityError(f"coded adapter: its samples cannot be read: {reason}") from None
    modules, reader = {}, _Vectors(points, sizes)
    for shape, choice, own in zip(taken.shapes, chosen, known, strict=True):
        modules[shape.name] = _part(shape, choice, own, reader, taken.root_step)
    return Parts(modules, taken.references, _extras(taken.sections.extras))


def vectors(
    shapes: Sequence[ModuleShape], chosen: Sequence[Choice], known: Sequence[Rows | Components | None]
) -> tuple[Ints, Ints]:
    """Sizes and classes of all vectors in the order of the payload."""
    runs = [
        choice.vectors(shape.d_out, shape.d_in, len(own.points) if isinstance(own, Rows) else 0)
        for shape, choice, own in zip(shapes, chosen, known, strict=True)
    ]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *(sizes for sizes, _ in runs)]), np.concatenate([none, *(classes for _, classes in runs)])


def joined_rows(known: Sequence[Parts], name: str, d_in: int) -> Rows | None:
    """The right vectors that the references have of a module, one after the other; None if they have none of this length."""
    found = [
        part.rows for each in known if (part := each.modules.get(name)) is not None and part.shape.d_in == d_in and len(part.y)
    ]
    if not found:
        return None
    return Rows(np.concatenate([rows.points for rows in found]), np.concatenate([rows.multipliers for rows in found]))


def _referred(digests: Sequence[str], references: Mapping[str, Any]) -> list[Parts]:
    """The decoded references of an object in their order, each decoded once. One may need only those that are named before it,
    so that there is no circle and nothing else to be found."""
    known: dict[str, Parts] = {}
    for digest in digests:
        if digest not in references:
            raise NotFoundError(f"a coded adapter needs the object sha256:{digest}, which was not given")
        taken = form.read(references[digest])
        known[digest] = _parts(taken, [known[each] for each in _checked(digest, taken.references, known)])
    return list(known.values())


def _checked(digest: str, needed: Sequence[str], known: Mapping[str, Parts]) -> Sequence[str]:
    if not set(needed) <= set(known):
        raise IntegrityError(f"coded adapter: its reference sha256:{digest} needs another that it does not name")
    return needed


def _known(taken: form.Form, chosen: Sequence[Choice], known: Sequence[Parts]) -> list[Rows | Components | None]:
    """What the references tell of each module: the rows of all, or the components of the last."""
    found: list[Rows | Components | None] = []
    for shape, choice in zip(taken.shapes, chosen, strict=True):
        own: Rows | Components | None = None
        if choice.kind != NONE:
            own = _refined(known, shape, choice) if choice.kind == REFINED else joined_rows(known, shape.name, shape.d_in)
            if own is None:
                raise IntegrityError(f"coded adapter: its references do not have what module {shape.name!r} needs")
        found.append(own)
    return found


def _refined(known: Sequence[Parts], shape: ModuleShape, choice: Choice) -> Components | None:
    """The components of the last reference in a module of the same size; None if it lacks any of those that are needed."""
    part = known[-1].modules.get(shape.name) if known else None
    if part is None or (part.shape.d_out, part.shape.d_in) != (shape.d_out, shape.d_in):
        return None
    return part.components if choice.origins.max(initial=-1) < len(part.gains) else None


class _Vectors:
    """Takes the decoded points of vectors one after the other; what has no samples is zeros."""

    def __init__(self, points: NDArray[np.int32], sizes: Ints) -> None:
        self._points, self._sizes = points, sizes
        self._vector = self._sample = 0

    def take(self, count: int, d: int) -> NDArray[np.int32]:
        """The next ``count`` vectors ``[count, d]``."""
        there = self._sizes[self._vector : self._vector + count] > 0
        stop = self._sample + int(there.sum()) * d
        own = self._points[self._sample : stop].reshape(-1, d)
        self._vector, self._sample = self._vector + count, stop
        if there.all():
            return own
        found = np.zeros((count, d), np.int32)
        found[there] = own
        return found


def _part(shape: ModuleShape, choice: Choice, known: Rows | Components | None, vectors: _Vectors, root_step: float) -> Part:
    """The next module."""
    live, gains = len(choice.gains), choice.gains
    x: Points = vectors.take(live, shape.d_out)
    few = vectors.take(live, len(known.points)) if isinstance(known, Rows) else None
    y: Points = vectors.take(live, shape.d_in)
    if isinstance(known, Rows) and few is not None:
        y = y + known.combined(few.astype(np.int64), choice.y_classes)
    elif isinstance(known, Components):
        gains = gains.copy()
        gains[: len(choice.origins)] += known.gains[choice.origins]
        x, y = (_refining(points, known, choice.origins, gains, left) for points, left in ((x, True), (y, False)))
    scales = [np.float32(float(np.float32(root_step)) * root(int(gain)) / FINE) for gain in gains]
    return Part(shape, gains, x, y, np.array(scales, np.float32))


def _refining(rests: Points, known: Components, origins: Ints, gains: Ints, left: bool) -> Points:
    """Vectors of which the first are rests beside the reference's."""
    found = rests.astype(np.int64)
    found[: len(origins)] += known.scaled(origins, gains[: len(origins)], left)
    if found.size and int(np.abs(found).max()) >= WIDEST:
        raise IntegrityError("coded adapter: a point beyond all bounds")
    return found.astype(np.int32)


def _extras(data: bytes) -> dict[str, Tensor]:
    if not data:
        return {}
    try:
        _, tensors = container.read(bytearray(form.unpacked(data, _LARGEST_EXTRAS)))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError) as reason:
        raise IntegrityError(f"coded adapter: its other tensors cannot be read: {reason}") from None
    return dict(sorted(tensors.items()))
