"""The format description written out bit by bit in plain Python: the oracle of the reader, and of a kernel's addressing."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import numpy as np
import zstandard

from adapterbank.codecs.fixed import FixedForm


def modules(data: bytes) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, A ``[live, d_in]`` and B ``[d_out, live]`` float32 of every module of an object."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    part = {
        name: data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]]
        for name, entry in header.items()
        if name != "__metadata__"
    }
    table = json.loads(zstandard.ZstdDecompressor().decompress(part["layout"]))
    words = struct.unpack(f"<{len(part['words']) // 4}I", part["words"])
    count, component, at = len(part["widths"]) // 2, 0, 0
    for name, (d_out, d_in, _rank, live, _kind, _kernel) in zip(table["names"], table["modules"], strict=True):
        sides = []
        for side, rows in enumerate((d_out, d_in)):
            place = slice(side * count + component, side * count + component + live)
            widths = part["widths"][place]
            scales = [bfloat16(part["scales"][2 * k : 2 * k + 2]) for k in range(place.start, place.stop)]
            sides.append(matrix(words[at:], list(widths), scales, rows))
            at += (rows + 31) // 32 * sum(widths)
        component += live
        yield name, np.ascontiguousarray(sides[1].T), sides[0]
    assert component == count
    assert at == len(words)


def matrix(words: tuple[int, ...], widths: list[int], scales: list[float], rows: int) -> np.ndarray:
    """One side ``[rows, live]``: each entry gathered bit by bit."""
    found = np.zeros((rows, len(widths)), dtype=np.float32)
    for j in range(rows):
        word = j // 32 * sum(widths)
        for k, width in enumerate(widths):
            code = sum((words[word + plane] >> (j % 32) & 1) << plane for plane in range(width))
            found[j, k] = (2 * code - (2**width - 1)) * scales[k]
            word += width
    return found


def by_places(form: FixedForm, side: int, index: int) -> np.ndarray:
    """One side of a module ``[rows, live]`` as a kernel finds it: every entry on its own, from the form's arrays alone."""
    at, words = form.places, form.words.numpy().view(np.uint32)
    first, last = int(at.first[index]), int(at.first[index + 1])
    found = np.zeros((int(at.rows[side, index]), last - first), dtype=np.float32)
    for row, column in np.ndindex(*found.shape):
        component = first + column
        word = int(at.offsets[side, index] + row // 32 * at.pitches[side, index] + at.columns[side, component])
        width = int(form.widths[side, component])
        code = sum((int(words[word + plane]) >> (row % 32) & 1) << plane for plane in range(width))
        found[row, column] = (2 * code - (2**width - 1)) * float(form.scales[side, component])
    return found


def bfloat16(two: bytes) -> float:
    return float(struct.unpack("<f", b"\0\0" + two)[0])
