"""The object of the fixed-width form and its reader; the bytes are described in ``docs/formats.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adapterbank.codecs.fixed import planes, sealed, table
from adapterbank.errors import IntegrityError, NotFoundError
from adapterbank.linalg.workers import share_out
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.layout import ModuleShape

KIND, FORMAT = "fixed", 1
EXTRA = "extra."
ARRAYS = {"layout": ("uint8", 1), "scales": ("bfloat16", 2), "widths": ("uint8", 2), "words": ("int32", 1)}


@dataclass(frozen=True, slots=True, eq=False)
class FixedForm:
    """The object's arrays, as views, and where each module and component lies in them. Side 0 is B, side 1 is A.

    With m modules and n components, those of module i being ``first[i]`` to ``first[i + 1]``: ``words [w]`` int32,
    ``widths [2, n]`` uint8, ``scales [2, n]`` bfloat16; side s of module i is the matrix ``[groups, pitches[s, i]]`` of words
    from ``offsets[s, i]`` on, ``rows[s, i]`` its rows; component j's planes are its columns from ``columns[s, j]`` on (all
    four int64). That is all a kernel needs.
    """

    shapes: tuple[ModuleShape, ...]
    words: Tensor
    widths: Tensor
    scales: Tensor
    places: table.Places
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def module(self, name: str) -> Factors:
        """One module's factors, float32 with scaling 1; no other module's bytes are read. NotFoundError if there is none."""
        found = next((i for i, shape in enumerate(self.shapes) if shape.name == name), None)
        if found is None:
            raise NotFoundError(f"the fixed-width form has no module {name!r}: it has {len(self.shapes)} others")
        return self._factors(found)

    def adapter(self, base_model: str | None = None) -> Adapter:
        """All modules and the extras; the modules are shared out to threads."""
        found: list[Factors] = []
        share_out(self._factors, range(len(self.shapes)), found.append)
        names = (shape.name for shape in self.shapes)
        return Adapter(dict(zip(names, found, strict=True)), base_model, self.extras)

    def _factors(self, index: int) -> Factors:
        shape, live = self.shapes[index], self.places.components(index)
        B, A = (self._side(side, index, live) for side in (0, 1))
        return Factors(A, B.T.contiguous(), kind=shape.kind, kernel=shape.kernel)

    def _side(self, side: int, index: int, live: slice) -> Tensor:
        at = self.places
        rows, pitch = int(at.rows[side, index]), int(at.pitches[side, index])
        begin, high = int(at.offsets[side, index]), planes.groups(rows)
        words = self.words[begin : begin + high * pitch].view(high, pitch)
        widths = self.widths[side, live]
        return planes.values(planes.unpack(words, widths, rows), widths, self.scales[side, live])


def read(buffer: Any, *, check: bool = True) -> FixedForm:
    """The form in ``buffer``; its arrays are views of a writable one (a mapping opened with ACCESS_COPY), else of one copy.

    Raises IntegrityError if it is none or damaged. ``check=False`` leaves the digest over all bytes out, for a caller who has
    just verified the object; the tables are checked either way.
    """
    metadata, found = sealed.opened(buffer, check=check)
    if metadata.get("kind") != KIND or metadata.get("format") != FORMAT:
        got = f"{metadata.get('kind')!r} of format {metadata.get('format')!r}"
        raise IntegrityError(f"object is {got}, expected {KIND!r} of format {FORMAT}")
    arrays = {name: sealed.array(found, name, item, dims) for name, (item, dims) in ARRAYS.items()}
    shapes, live = table.unpacked(arrays["layout"])
    places = table.places(shapes, live, arrays["widths"], arrays["scales"], len(arrays["words"]))
    extras = {name.removeprefix(EXTRA): tensor for name, tensor in sorted(found.items()) if name.startswith(EXTRA)}
    return FixedForm(shapes, arrays["words"], arrays["widths"], arrays["scales"], places, extras)


def decode(data: Any, *, base_model: str | None = None) -> Adapter:
    """The adapter in an object: float32, scaling 1, each module of the rank that is left of it, extras verbatim.

    A module of which nothing was kept has factors of rank 0. Raises IntegrityError for damaged bytes.
    """
    return read(data).adapter(base_model)
