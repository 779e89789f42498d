"""The two Triton programs. Each writes one tile, some rows of B or of A of one place, for one adapter.

``places`` and ``tiles`` are tables of the layout: of each place its offset, rows of B, rows in all and rank; of each tile its
place, its side (0: B, 1: A) and its first row in the place. What an adapter has is said in ``packed/``. With MANY, program i is
for adapter i mod ``many``, and ``several`` has a line of 12 int64 for each with what the arguments say for one: addresses in
the order of the arguments, numbers, and last the window's column, width (−1: all that are left) and weight (a float32's bits).
"""

# Triton reads the source of these functions: their arguments have no Python types, and are many since a launch has no objects.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0913
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tile(places, tiles, program, ROWS: tl.constexpr):
    """The place, the side, the rows, which of them there are, and how many are B's."""
    place = tl.load(tiles + 3 * program).to(tl.int64)
    side = tl.load(tiles + 3 * program + 1).to(tl.int64)
    row = tl.load(tiles + 3 * program + 2).to(tl.int64) + tl.arange(0, ROWS)
    of_B = tl.load(places + 4 * place + 1)
    last = tl.where(side == 0, of_B, tl.load(places + 4 * place + 2))
    return place, side, row, last, of_B


@triton.jit
def _window(entry):
    """The last three numbers of a line."""
    weight = tl.load(entry + 11).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.load(entry + 9), tl.load(entry + 10), weight


@triton.jit
def _group(row, lines):
    """Where rows begin in groups of 32, of so many lines."""
    return row // 32 * (32 * lines) + row % 32


@triton.jit
def _put(out, places, place, side, row, last, total, live, column, width, weight, WINDOW: tl.constexpr, ALIGN: tl.constexpr):
    """Write ``total [rows, columns]``, zeros where it is not live, into the columns of the window."""
    offset = tl.multiple_of(tl.load(places + 4 * place), ALIGN)
    rank = tl.multiple_of(tl.load(places + 4 * place + 3), ALIGN)
    k = tl.arange(0, total.shape[1])
    to = out + offset + row[:, None] * rank + k[None, :]
    high = rank
    if WINDOW:
        low = tl.minimum(column, rank)
        high = tl.where(width < 0, rank, tl.minimum(low + width, rank)) - low
        to += low
        total = tl.where(side == 0, total * weight, total)
    total = tl.where(live, total, 0.0)
    tl.store(to, total.to(out.dtype.element_ty), mask=(row < last)[:, None] & (k < high)[None, :])


@triton.jit(do_not_specialize=["many", "column", "width"])
def combine(
    values, scales, table, coefficients, out, several, places, tiles, many, pitch, column, width, weight,
    P: tl.constexpr, INT4: tl.constexpr, SCALED: tl.constexpr, ALIGN: tl.constexpr,
    MANY: tl.constexpr, WINDOW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """μ + Σ_k c_k·b_k in float32, in this order; with P = 0 an adapter's own factors. ``pitch`` are the elements of a line of
    ``values``; scales and coefficients are in groups of 32 rows."""
    program = tl.program_id(0)
    if MANY:
        entry = several + (program % many) * 12
        values, scales = tl.multiple_of(tl.load(entry).to(values.dtype), ALIGN), tl.load(entry + 1).to(scales.dtype)
        table, coefficients = tl.load(entry + 2).to(table.dtype), tl.load(entry + 3).to(coefficients.dtype)
        out = tl.multiple_of(tl.load(entry + 4).to(out.dtype), ALIGN)
        column, width, weight = _window(entry)
        program = program // many
    place, side, row, last, _ = _tile(places, tiles, program, ROWS)
    start = tl.multiple_of(tl.load(table + 4 * place), ALIGN)
    first, given = tl.load(table + 4 * place + 1), tl.load(table + 4 * place + 3)
    rank = tl.multiple_of(tl.load(table + 4 * place + 2), ALIGN)

    k = tl.arange(0, COLUMNS)
    held = row < tl.where(rank > 0, last, 0)
    scaled, factored = _group(first + row, P + 1), _group(given + row, P)
    live = held[:, None] & (k < rank)[None, :]
    if INT4:  # bytes of two numbers
        half = tl.arange(0, COLUMNS // 2)
        each = tl.multiple_of((rank + 1) // 2, (ALIGN + 1) // 2)
        at = start + row[:, None] * each + half[None, :]
        there = held[:, None] & (half < each)[None, :]
    else:
        at = start + row[:, None] * rank + k[None, :]
        there = live
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for number in tl.static_range(P + 1):
        found = tl.load(values + at, mask=there, other=0)
        values += pitch
        if INT4:
            found = found.to(tl.int32)
            found = tl.interleave(((found & 15) ^ 8) - 8, ((found >> 4) ^ 8) - 8)
        found = found.to(tl.float32)
        if SCALED:
            found = found * tl.load(scales + scaled + 32 * number, mask=held, other=0).to(tl.float32)[:, None]
        if number == 0:
            total = found
        else:
            factor = tl.load(coefficients + factored + 32 * (number - 1), mask=held, other=0).to(tl.float32)
            total = total + factor[:, None] * found
    _put(out, places, place, side, row, last, total, live, column, width, weight, WINDOW, ALIGN)


@triton.jit(do_not_specialize=["many", "components", "widest", "column", "width"])
def unpack(
    words, widths, columns, scales, table, pitches, out, several, places, tiles, many, components, widest,
    column, width, weight, ALIGN: tl.constexpr, MANY: tl.constexpr, WINDOW: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """(2q − (2^width − 1))·scale of the codes q, whose bits are planes of words of 32 rows."""
    program = tl.program_id(0)
    if MANY:
        entry = several + (program % many) * 12
        words, widths = tl.load(entry).to(words.dtype), tl.load(entry + 1).to(widths.dtype)
        columns, scales = tl.load(entry + 2).to(columns.dtype), tl.load(entry + 3).to(scales.dtype)
        table, pitches = tl.load(entry + 4).to(table.dtype), tl.load(entry + 5).to(pitches.dtype)
        out = tl.multiple_of(tl.load(entry + 6).to(out.dtype), ALIGN)
        components, widest = tl.load(entry + 7), tl.load(entry + 8).to(tl.int32)
        column, width, weight = _window(entry)
        program = program // many
    place, side, row, last, of_B = _tile(places, tiles, program, ROWS)
    first = tl.load(table + 6 * place) + side * components
    k = tl.arange(0, COLUMNS)
    has = k < tl.load(table + 6 * place + 1)
    bits = tl.load(widths + first + k, mask=has, other=0).to(tl.int32)
    plane = tl.load(columns + first + k, mask=has, other=0).to(tl.int64)
    scale = tl.load(scales + first + k, mask=has, other=0).to(tl.float32)

    held = tl.load(table + 6 * place + 3 + 2 * side) + row - side * of_B
    group = tl.load(table + 6 * place + 2 + 2 * side) + held // 32 * tl.load(pitches + 2 * place + side)
    lane = (held % 32).to(tl.int32)
    live = (row < last)[:, None] & has[None, :]
    code = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    for bit in range(widest):
        word = tl.load(words + group[:, None] + (plane + bit)[None, :], mask=live & (bit < bits)[None, :], other=0)
        code |= ((word >> lane[:, None]) & 1) << bit
    odd = 2 * code - ((1 << bits) - 1)[None, :]
    _put(out, places, place, side, row, last, odd.to(tl.float32) * scale[None, :], live, column, width, weight, WINDOW, ALIGN)
