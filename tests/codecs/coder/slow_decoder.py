"""docs/formats.md, "The coded adapter, byte by byte", written out in plain Python: integers, ``struct``, no arrays.

The oracle of the fast decoder. It trusts its input: a damaged object ends in any exception.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import zstandard

import adapterbank.codecs

TABLES = json.loads((Path(adapterbank.codecs.__file__).parent / "tables.json").read_text())
POLYNOMIALS = {2: (0o5, 0o2), 3: (0o13, 0o4), 4: (0o23, 0o4), 5: (0o45, 0o10), 6: (0o103, 0o24)}
SECTIONS = ("about", "choices", "states", "words", "raw", "escapes", "extras")
NONE, REFINED, ROWS = range(3)
Vector = list[int]
Matrix = list[list[float]]


@dataclass
class Part:
    """A module: its vectors in Δ/64, x of d_out samples, y of d_in."""

    d_out: int
    d_in: int
    gains: list[int]
    x: list[Vector]
    y: list[Vector]
    root_step: float

    def factors(self) -> tuple[Matrix, Matrix]:
        """A, of d_in columns, and B transposed, of d_out columns."""
        scales = [float32(self.root_step * mantissa(-g) / 64) for g in self.gains]
        A, B = ([[float32(float32(p) * s) for p in v] for v, s in zip(side, scales, strict=True)] for side in (self.y, self.x))
        return (A, B) if scales else ([[0.0] * self.d_in], [[0.0] * self.d_out])


def decode(data: bytes, references: Mapping[str, bytes] | None = None) -> dict[str, tuple[Matrix, Matrix]]:
    """A and Bᵀ of every module, as floats that are float32 numbers."""
    return {name: part.factors() for name, part in parts(data, references or {})[1].items()}


def taken_apart(data: bytes) -> tuple[int, float, dict[str, bytes]]:
    """log₂ of the states, √Δ, and the sections."""
    magic, number, log_states, flags, root_step, *sizes = struct.unpack("<4sHBBf7I", data[:40])
    assert (magic, number, flags) == (b"ABRD", 1, 0)
    assert sha256(data[:-8]).digest()[:8] == data[-8:]
    sections, at = {}, 40
    for name, size in zip(SECTIONS, sizes, strict=True):
        sections[name] = data[at : at + size]
        at += size
    assert at == len(data) - 8
    return log_states, root_step, sections


def parts(data: bytes, references: Mapping[str, bytes]) -> tuple[list[str], dict[str, Part]]:
    log_states, root_step, sections = taken_apart(data)
    about = json.loads(zstandard.ZstdDecompressor().decompress(sections["about"]))
    needed = about.get("references", [])
    known = [parts(references[digest], references)[1] for digest in needed]
    packed, choices = sections["choices"][0], sections["choices"][1:]
    numbers = varints(zstandard.ZstdDecompressor().decompress(choices) if packed else choices)
    modules, vectors, first, first_move = [], [], 0, 0
    for name, d_out, d_in, _rank, _kind, _kernel in about["layout"]:
        kind, live = next(numbers), next(numbers)
        origins = []
        for _ in range(next(numbers) if kind == REFINED else 0):
            origins.append(next(numbers) + (origins[-1] + 1 if origins else 0))
        moves = run(numbers, len(origins), first_move)
        gains = run(numbers, live - len(origins), first)
        first_move, first = (moves or [first_move])[0], (gains or [first])[0]
        left = run(numbers, live if kind == REFINED else 0, 0)
        few = run(numbers, live if kind == ROWS else 0, 0)
        right = run(numbers, live if kind != NONE else 0, 0)
        rows = [row for each in known for row in rows_of(each.get(name), d_in)] if kind == ROWS else []
        old = [(known[-1][name], origin, move) for origin, move in zip(origins, moves, strict=True)]
        gains = [part.gains[origin] + move for part, origin, move in old] + gains
        vectors += [(d_out, c) for c in left or [class_of(g, d_out) for g in gains]]
        vectors += [(len(rows), c) for c in few]
        vectors += [(d_in, c) for c in right or [class_of(g, d_in) for g in gains]]
        modules.append((name, d_out, d_in, kind, gains, rows, right, old))
    assert next(numbers, None) is None
    vectors = [(0 if c < -6 else size, c) for size, c in vectors]
    decoded, found = iter(samples(sections, vectors, POLYNOMIALS[log_states])), {}
    for name, d_out, d_in, kind, gains, rows, rest, old in modules:
        x = [next(decoded) or [0] * d_out for _ in gains]
        few_points = [next(decoded) or [0] * len(rows) for _ in rest] if kind == ROWS else []
        y = [next(decoded) or [0] * d_in for _ in gains]
        if kind == ROWS:
            y = [predicted(own, c, rows, k) for own, c, k in zip(y, few_points, rest, strict=True)]
        for k, (part, origin, move) in enumerate(old):
            x[k], y[k] = beside(x[k], part.x[origin], move), beside(y[k], part.y[origin], move)
        found[name] = Part(d_out, d_in, gains, x, y, root_step)
    return needed, found


def beside(rest: Vector, known: Vector, move: int) -> Vector:
    """A vector of a reference, longer by 2^(move/24), and what it differs by."""
    octave, j = divmod(2 * move, 48)
    exponent = 24 + octave - 23
    factor = root_of_two(j) << exponent if exponent >= 0 else root_of_two(j) >> -exponent
    return [own + (point * factor + (1 << 23) >> 24) for own, point in zip(rest, known, strict=True)]


def run(numbers: Iterator[int], count: int, last: int) -> list[int]:
    """Integers that are stored as the differences of the one before less each."""
    found = []
    for _ in range(count):
        last -= unfolded(next(numbers))
        found.append(last)
    return found


def rows_of(part: Part | None, d_in: int) -> list[Vector]:
    """Right vectors of a reference, of unit length, in 2⁻³²."""
    if part is None or part.d_in != d_in:
        return []
    found = []
    for gain, y in zip(part.gains, part.y, strict=True):
        octave, j = divmod(-2 * gain, 48)
        exponent = 32 + octave - 23
        multiplier = root_of_two(j) << exponent if exponent >= 0 else root_of_two(j) >> -exponent
        found.append([(point * multiplier + 32) // 64 for point in y])
    return found


def predicted(own: Vector, coefficients: Vector, rows: list[Vector], rest_class: int) -> Vector:
    doublings = max((rest_class + 3) // 6 + 1, 0)
    total = list(own)
    for c, row in zip(coefficients, rows, strict=True):
        for i, entry in enumerate(row):
            total[i] += ((c << doublings) * entry + (1 << 31)) >> 32
    return total


def samples(sections: Mapping[str, bytes], vectors: list[tuple[int, int]], polynomials: tuple[int, int]) -> list[Vector]:
    """Every vector's points in Δ/64; ``vectors`` are (samples, class)."""
    lanes = [
        (vector, i * size // pieces, (i + 1) * size // pieces)
        for vector, (size, _) in enumerate(vectors)
        for pieces in [-(-size // 512)]
        for i in range(pieces)
    ]
    lanes.sort(key=lambda lane: lane[1] - lane[2])  # Python's sort is stable
    states = list(struct.unpack(f"<{len(lanes)}I", sections["states"]))
    words = iter(struct.unpack(f"<{len(sections['words']) // 2}H", sections["words"]))
    walk = [0] * len(lanes)
    symbols = [[(0, 0)] * size for size, _ in vectors]
    for t in range(max((stop - first for _, first, stop in lanes), default=0)):
        for lane, (vector, first, stop) in enumerate(lanes):
            if t >= stop - first:
                break
            quantizer = walk[lane] & 1
            frequencies = TABLES["frequencies"][2 * row_of(vectors[vector][1]) + quantizer]
            slot, start, symbol = states[lane] & 0x3FFF, 0, 0
            while slot >= start + frequencies[symbol]:
                start += frequencies[symbol]
                symbol += 1
            x = frequencies[symbol] * (states[lane] >> 14) + slot - start
            states[lane] = x if x >= 1 << 16 else x << 16 | next(words)
            symbols[vector][first + t] = symbol, quantizer
            walk[lane] = (walk[lane] >> 1) ^ quantizer * (polynomials[0] >> 1) ^ (symbol & 1) * (polynomials[1] >> 1)
    assert next(words, None) is None
    assert all(x >> 31 == 1 for x in states)
    return points(symbols, [c for _, c in vectors], raw_bits(states, sections["raw"]), varints(sections["escapes"]))


def points(
    symbols: list[list[tuple[int, int]]], classes: list[int], bits: Iterator[int], escapes: Iterator[int]
) -> list[Vector]:
    middles = [[number(bits, hidden(c)) for _ in own] for own, c in zip(symbols, classes, strict=True)]
    found = []
    for own, c, middle in zip(symbols, classes, middles, strict=True):
        vector = []
        for (symbol, quantizer), between in zip(own, middle, strict=True):
            frequencies, shifts = (TABLES[table][2 * row_of(c) + quantizer] for table in ("frequencies", "shifts"))
            escaped = symbol >= len(frequencies) - 2
            folded = symbol + 2 * next(escapes) if escaped else symbol
            m = ((folded >> 1) << hidden(c) | between) << 1 | folded & 1
            shift = 0 if escaped or hidden(c) else shifts[min(symbol, len(shifts) - 1)]
            point = max(2 * m - quantizer, 0) * 64 + shift
            vector.append(-point if m and next(bits) else point)
        found.append(vector)
    assert next(escapes, None) is None
    return found


def raw_bits(states: list[int], rest: bytes) -> Iterator[int]:
    for state in states:
        yield from (state >> place & 1 for place in range(30, -1, -1))
    for byte in rest:
        yield from (byte >> place & 1 for place in range(7, -1, -1))


def number(bits: Iterator[int], width: int) -> int:
    value = 0
    for _ in range(width):
        value = value << 1 | next(bits)
    return value


def varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
    assert shift == 0


def unfolded(value: int) -> int:
    return -(value + 1) // 2 if value & 1 else value // 2


def class_of(gain: int, d: int) -> int:
    return (gain - (d**24).bit_length() // 2 + 2) // 4


def hidden(c: int) -> int:
    return max(0, -((24 - c) // 6))


def row_of(c: int) -> int:
    return max(c - 6 * hidden(c), -6) + 6


def root_of_two(j: int) -> int:
    """⌊2^(23 + j/48)⌋: the largest n with n⁴⁸ ≤ 2^(48·23 + j)."""
    n = 0
    for place in range(24, -1, -1):
        if (n | 1 << place) ** 48 <= 1 << (48 * 23 + j):
            n |= 1 << place
    return n


def mantissa(g: int) -> float:
    """2^(g/48) to 24 bits."""
    octave, j = divmod(g, 48)
    return root_of_two(j) * 2.0 ** (octave - 23)


def float32(value: float) -> float:
    """The nearest float32, ties to even."""
    return struct.unpack("<f", struct.pack("<f", value))[0]
