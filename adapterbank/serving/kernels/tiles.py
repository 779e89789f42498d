"""The two Triton programs. Each writes one tile, some rows of B or of A of one place, for one adapter.

``place`` and ``tile`` are tables of the layout: of each place its offset, rows of B, rows in all and rank; of each tile its
place, its side (0: B, 1: A) and its first row. What an adapter has is said in ``packed/``. With MANY, program i is for
adapter i mod ``many``, and ``several`` has a line of int64 for each with what the arguments say for one: addresses first, in the order of
the arguments, then numbers, last the window's column, width (−1: all that are left) and weight (the bits of a float32).
"""

from __future__ import annotations

import triton
import triton.language as tl

FIELDS = 12  # numbers in a line of ``several``


@triton.jit  # type: ignore[untyped-decorator]
def _columns(column, width, rank, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """First and last column of a place that is written."""
    low = rank * 0
    high = rank
    if WINDOW:
        low = tl.minimum(column, rank)
        high = tl.where(width < 0, rank, tl.minimum(column + width, rank))
    return low, high


@triton.jit(do_not_specialize=["many", "column", "width"])  # type: ignore[untyped-decorator]
def combine(  # type: ignore[no-untyped-def] # noqa: ANN201
    values, scales, table, coefficients, out, several, places, tiles, many, pitch, line, column, width, weight,  # noqa: ANN001
    P: tl.constexpr, INT4: tl.constexpr, SCALED: tl.constexpr, ALIGN: tl.constexpr,
    MANY: tl.constexpr, WINDOW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """μ + Σ_k c_k·b_k in float32, in this order; with P = 0 an adapter's own factors. ``pitch`` are the elements of a line of
    ``values``, ``line`` the rows of one."""
    program = tl.program_id(0)
    if MANY:
        entry = several + (program % many) * 12
        values = tl.load(entry).to(values.dtype)
        scales = tl.load(entry + 1).to(scales.dtype)
        table = tl.load(entry + 2).to(table.dtype)
        coefficients = tl.load(entry + 3).to(coefficients.dtype)
        out = tl.load(entry + 4).to(out.dtype)
        column = tl.load(entry + 9)
        width = tl.load(entry + 10)
        weight = tl.load(entry + 11).to(tl.int32).to(tl.float32, bitcast=True)
        program = program // many
    place = tl.load(tiles + 3 * program).to(tl.int64)
    side = tl.load(tiles + 3 * program + 1)
    row = tl.load(tiles + 3 * program + 2).to(tl.int64) + tl.arange(0, ROWS)
    offset = tl.multiple_of(tl.load(places + 4 * place), ALIGN)
    last = tl.where(side == 0, tl.load(places + 4 * place + 1), tl.load(places + 4 * place + 2))
    broad = tl.multiple_of(tl.load(places + 4 * place + 3), ALIGN)
    start = tl.multiple_of(tl.load(table + 4 * place), ALIGN)
    first = tl.load(table + 4 * place + 1)
    rank = tl.multiple_of(tl.load(table + 4 * place + 2), ALIGN)
    given = tl.load(table + 4 * place + 3)
    low, high = _columns(column, width, broad, WINDOW)

    k = tl.arange(0, COLUMNS)
    within = row < last
    held = row < tl.where(rank > 0, last, 0)
    live = within[:, None] & (k < rank)[None, :]
    if INT4:
        at = start + row[:, None] * tl.multiple_of((rank + 1) // 2, (ALIGN + 1) // 2) + (k // 2)[None, :]
    else:
        at = start + row[:, None] * rank + k[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for number in tl.static_range(P + 1):
        found = tl.load(values + at, mask=live, other=0)
        values += pitch
        if INT4:
            code = (found.to(tl.int32) >> ((k % 2) * 4)[None, :]) & 15
            found = (code ^ 8) - 8
        found = found.to(tl.float32)
        if SCALED:
            step = tl.load(scales + first + row, mask=held, other=0)
            scales += line
            found = found * step.to(tl.float32)[:, None]
        if number == 0:
            total = found
        else:
            factor = tl.load(coefficients + (given + row) * P + number - 1, mask=held, other=0)
            total = total + factor.to(tl.float32)[:, None] * found
    if WINDOW:
        total = tl.where(side == 0, total * weight, total)
    total = tl.where(live, total, 0.0)
    to = out + offset + row[:, None] * broad + (low + k)[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=within[:, None] & (low + k < high)[None, :])


@triton.jit(do_not_specialize=["many", "components", "widest", "column", "width"])  # type: ignore[untyped-decorator]
def unpack(  # type: ignore[no-untyped-def] # noqa: ANN201
    words, widths, columns, scales, table, pitches, out, several, places, tiles, many, components, widest, column, width,  # noqa: ANN001
    weight,  # noqa: ANN001
    ALIGN: tl.constexpr, MANY: tl.constexpr, WINDOW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(2q − (2^width − 1))·scale of the codes q, whose bits are planes of words of 32 rows."""
    program = tl.program_id(0)
    if MANY:
        entry = several + (program % many) * 12
        words = tl.load(entry).to(words.dtype)
        widths = tl.load(entry + 1).to(widths.dtype)
        columns = tl.load(entry + 2).to(columns.dtype)
        scales = tl.load(entry + 3).to(scales.dtype)
        table = tl.load(entry + 4).to(table.dtype)
        pitches = tl.load(entry + 5).to(pitches.dtype)
        out = tl.load(entry + 6).to(out.dtype)
        components = tl.load(entry + 7).to(tl.int32)
        widest = tl.load(entry + 8).to(tl.int32)
        column = tl.load(entry + 9)
        width = tl.load(entry + 10)
        weight = tl.load(entry + 11).to(tl.int32).to(tl.float32, bitcast=True)
        program = program // many
    place = tl.load(tiles + 3 * program).to(tl.int64)
    side = tl.load(tiles + 3 * program + 1).to(tl.int64)
    row = tl.load(tiles + 3 * program + 2).to(tl.int64) + tl.arange(0, ROWS)
    offset = tl.multiple_of(tl.load(places + 4 * place), ALIGN)
    of_B = tl.load(places + 4 * place + 1)
    last = tl.where(side == 0, of_B, tl.load(places + 4 * place + 2))
    broad = tl.multiple_of(tl.load(places + 4 * place + 3), ALIGN)
    first = tl.load(table + 6 * place) + side * components
    count = tl.load(table + 6 * place + 1)
    low, high = _columns(column, width, broad, WINDOW)

    k = tl.arange(0, COLUMNS)
    has = k < count
    bits = tl.load(widths + first + k, mask=has, other=0).to(tl.int32)
    plane = tl.load(columns + first + k, mask=has, other=0).to(tl.int64)
    scale = tl.load(scales + first + k, mask=has, other=0).to(tl.float32)
    held = tl.load(table + 6 * place + 3 + 2 * side) + row - side * of_B
    group = tl.load(table + 6 * place + 2 + 2 * side) + held // 32 * tl.load(pitches + 2 * place + side)
    lane = (held % 32).to(tl.int32)
    within = row < last
    live = within[:, None] & has[None, :]
    code = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    for bit in range(widest):
        word = tl.load(words + group[:, None] + (plane + bit)[None, :], mask=live & (bit < bits)[None, :], other=0)
        code |= ((word >> lane[:, None]) & 1) << bit
    odd = 2 * code - ((1 << bits) - 1)[None, :]
    total = odd.to(tl.float32) * scale[None, :]
    if WINDOW:
        total = tl.where(side == 0, total * weight, total)
    total = tl.where(live, total, 0.0)
    to = out + offset + row[:, None] * broad + (low + k)[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=within[:, None] & (low + k < high)[None, :])
