"""What a stored form keeps of each module, whatever codec made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapterbank import container
from adapterbank.catalog import bases
from adapterbank.catalog.rows import Member as MemberRow
from adapterbank.codecs import coder, fixed
from adapterbank.codecs.fixed.planes import groups
from adapterbank.errors import IntegrityError
from adapterbank.rmm.objects import Member
from adapterbank.ways.coding import FIXED, RD, Buffer
from adapterbank.ways.results import ModuleForm
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.sizes import RMM

NO_PREDICTION = "none"

Found = Iterator[tuple[str, str, int, int, float]]  # name, prediction, rank, components that are stored, bytes


def modules_of(rooms: Rooms, form: MemberRow) -> list[ModuleForm]:
    """Each module of ``form``, by name, with the error of its row. Raises IntegrityError for damaged bytes."""
    with rooms.vault.open(form.object) as mapped:
        reading = _projected(rooms, form, mapped.buffer) if form.codec == RMM else _READERS[form.codec](mapped.buffer)
        found = sorted(reading)
    errors = form.module_errors
    return [ModuleForm(name, predict, rank, live, size, errors.get(name)) for name, predict, rank, live, size in found]


def _projected(rooms: Rooms, form: MemberRow, data: Buffer) -> Found:
    """Mean and components of the basis: every module has all of its rank."""
    if form.basis is None:
        raise IntegrityError(f"the form of {form.version} by the codec rmm has no basis", hint="adapterbank verify")
    with rooms.catalog.reading() as tx:
        digest = bases.get(tx, form.basis).shared
    member = Member.from_object(*container.read(data), digest)
    for block in member.layout.classes:
        coefficients = member.coefficients[block.rank]
        per_row = coefficients.shape[1] * coefficients.itemsize
        for module in block.modules:
            yield module.name, RMM, module.rank, module.rank, float(module.rows * per_row)


def _entropy_coded(data: Buffer) -> Found:
    for module in coder.inspect(data).modules:
        yield module.name, module.predict, module.rank, module.live, module.bytes


def _fixed_width(data: Buffer) -> Found:
    """The words of both sides, and a width and a scale for each of their components."""
    form = fixed.read(data)
    rows, pitches = form.places.rows.tolist(), form.places.pitches.tolist()
    per_component = 2 * (form.widths.itemsize + form.scales.itemsize)
    for index, shape in enumerate(form.shapes):
        live = form.places.components(index)
        count, words = live.stop - live.start, sum(groups(rows[side][index]) * pitches[side][index] for side in (0, 1))
        yield shape.name, NO_PREDICTION, shape.rank, count, float(words * form.words.itemsize + count * per_component)


_READERS: dict[str, Callable[[Buffer], Found]] = {RD: _entropy_coded, FIXED: _fixed_width}
