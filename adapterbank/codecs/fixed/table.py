"""Where everything lies: the layout as a compressed table, and the places that follow from it and from the widths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import zstandard
from torch import Tensor

from adapterbank.codecs.fixed.planes import groups
from adapterbank.container import canonical_json
from adapterbank.errors import IntegrityError
from adapterbank.lora.layout import ModuleShape

_LEVEL = 12
_LARGEST = 1 << 26  # bytes of a table: a million modules
_MOST_ROWS = 1 << 31
_WIDEST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Offsets into the arrays of a form, all int64 (see :class:`~adapterbank.codecs.fixed.form.FixedForm`)."""

    first: Tensor  # [m + 1]
    rows: Tensor  # [2, m]
    offsets: Tensor  # [2, m]
    pitches: Tensor  # [2, m]
    columns: Tensor  # [2, n]

    def components(self, index: int) -> slice:
        """The components of one module."""
        return slice(int(self.first[index]), int(self.first[index + 1]))


def packed(shapes: Sequence[ModuleShape], live: Sequence[int]) -> bytes:
    """The table of all modules: name, d_out, d_in, rank before coding, kind, kernel, and how many components are left."""
    names = [shape.name for shape in shapes]
    rest = [[s.d_out, s.d_in, s.rank, n, s.kind, list(s.kernel)] for s, n in zip(shapes, live, strict=True)]
    return zstandard.ZstdCompressor(level=_LEVEL).compress(canonical_json({"names": names, "modules": rest}).encode())


def unpacked(data: Tensor) -> tuple[tuple[ModuleShape, ...], list[int]]:
    """The modules and how many components each has; IntegrityError if the table is none."""
    try:
        compressed = data.numpy().tobytes()
        if not 0 <= zstandard.frame_content_size(compressed) <= _LARGEST:
            raise ValueError("it does not say its size, or is too large")
        entries = json.loads(zstandard.ZstdDecompressor().decompress(compressed))
        rows = zip(entries["names"], entries["modules"], strict=True)
        shapes, live = zip(*(_entry(name, *fields) for name, fields in rows), strict=True) if entries["names"] else ((), ())
    except (zstandard.ZstdError, ValueError, TypeError, LookupError, RecursionError, AttributeError) as reason:
        raise IntegrityError(f"the table of modules cannot be read: {reason}") from None
    if any(first.name >= second.name for first, second in pairwise(shapes)):
        raise IntegrityError("the table of modules is not in ascending order of names")
    return tuple(shapes), list(live)


def places(shapes: Sequence[ModuleShape], live: Sequence[int], widths: Tensor, scales: Tensor, words: int) -> Places:
    """The places of modules and components; IntegrityError if ``live``, the arrays and the number of words disagree."""
    n = sum(live)
    if widths.shape != (2, n) or scales.shape != (2, n):
        raise IntegrityError(f"{n} components have widths {tuple(widths.shape)} and scales {tuple(scales.shape)}")
    if bool((widths < 1).any()) or bool((widths > _WIDEST).any()):
        raise IntegrityError(f"a width is not between 1 and {_WIDEST} bits")
    if not bool(scales.float().isfinite().all()):
        raise IntegrityError("a scale is not a finite number")
    rows = torch.tensor([[s.d_out for s in shapes], [s.d_in for s in shapes]], dtype=torch.int64).view(2, -1)
    first = torch.tensor([0, *live], dtype=torch.int64).cumsum(0)
    ends = torch.nn.functional.pad(widths.long().cumsum(1), (1, 0))
    pitches = ends[:, first[1:]] - ends[:, first[:-1]]
    columns = ends[:, :-1] - ends[:, first[:-1]].repeat_interleave(torch.tensor(live, dtype=torch.int64), dim=1)
    sizes = torch.tensor([[groups(int(d)) for d in side] for side in rows], dtype=torch.int64).view(2, -1) * pitches
    # Module after module, B before A.
    stops = sizes.T.flatten().cumsum(0)
    if (int(stops[-1]) if len(stops) else 0) != words:
        raise IntegrityError(f"the planes are {words} words, expected {int(stops[-1]) if len(stops) else 0} from the widths")
    return Places(first, rows, (stops - sizes.T.flatten()).view(-1, 2).T.contiguous(), pitches, columns)


def _entry(name: str, d_out: int, d_in: int, rank: int, live: int, kind: str, kernel: list[int]) -> tuple[ModuleShape, int]:
    numbers = (d_out, d_in, rank, live, *kernel)
    if not (isinstance(name, str) and isinstance(kind, str) and all(type(number) is int for number in numbers)):
        raise TypeError(f"module {name!r} has an entry of the wrong type")
    if not (0 < d_out < _MOST_ROWS and 0 < d_in < _MOST_ROWS and 0 <= live <= rank < _MOST_ROWS):
        raise ValueError(f"module {name!r} is {d_out}×{d_in} with {live} of {rank} components")
    return ModuleShape(name, d_out, d_in, rank, kind, tuple(kernel)), live
