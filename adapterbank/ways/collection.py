"""A basis of the codec ``rd``: adapters coded one at a time to one target, some against others where that saves bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256

from sqlalchemy import Connection

from adapterbank.catalog import bases, members, versions
from adapterbank.catalog.rows import Basis, Member, NewBasis, NewMember, Version
from adapterbank.codecs import coder
from adapterbank.codecs.form import REFERENCES
from adapterbank.errors import ErrorBoundError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError
from adapterbank.lora.layout import Layout
from adapterbank.refs import Ref, check_name
from adapterbank.vault.objects import Vault
from adapterbank.vault.staging import Staged
from adapterbank.ways import coding
from adapterbank.ways.fit import in_all
from adapterbank.ways.joinable import each_once, not_bounded, plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.settings import Settings, settings_of
from adapterbank.ways.sizes import RD, refuse_larger

MOST_REFERENCES = 4
Earlier = dict[str, tuple[str, tuple[str, ...]]]  # by version, in order: the object of its form, and those that it needs
GAUGE, DTYPE = "svd", "float32"


@contextmanager
def prepared(
    rooms: Rooms,
    name: str,
    chosen: Sequence[Version],
    settings: Settings,
    *,
    accept_generation_loss: bool = False,
    force: bool | None = False,
    progress: Progress | None = None,
) -> Iterator[Callable[[Connection], Basis]]:
    """Code ``chosen`` one after the other and make their objects durable; the block gets what records the rows.

    Raises IncompatibleError, ConflictError (no exact bytes), UsageError (larger than the originals without ``force``, or a
    target that cannot be reached), ErrorBoundError.
    """
    check_name(name, "basis name")
    _check(chosen, accept_generation_loss)
    layout = Layout.union(version.modules for version in chosen)
    chosen = _best_references_first(rooms, chosen)
    with rooms.vault.stage() as staged:
        shelf = _Shelf(staged)
        rows = list(_coded(rooms, chosen, settings, shelf, progress))
        original = sum(version.bytes for version in chosen)
        refuse_larger(sum(row.bytes for row in rows), original, "coded to this target,", force, "a smaller size")
        with rooms.vault.holding():
            shelf.keep(rooms.vault)
            new = _row(name, chosen[0].base_model, layout, settings, rows)
            yield partial(_record, new=new, rows=list(zip(chosen, rows, strict=True)))


def add(rooms: Rooms, basis: Basis, version: Version, *, force: bool = False, progress: Progress | None = None) -> Member:
    """Code ``version`` as the others are. Raises ErrorBoundError above the basis's bound unless ``force``."""
    same_base_model([version], basis.base_model)
    _check([version], False)
    Layout.union([basis.layout, version.modules])
    settings = settings_of(basis)
    with rooms.catalog.reading() as tx:
        members.refuse_second(tx, basis, version, RD)
        present = members.of_basis(tx, basis)
    earlier = {member.version: (member.object, member.reference_objects) for member in sorted(present, key=_age)}
    references = {digest: rooms.vault.read(digest) for digest in candidates(version, earlier)}
    with rooms.vault.stage() as staged:
        with load(rooms, version) as loaded:
            coded = _encode(loaded.adapter, settings, references, progress)
        bound = max(basis.error_worst, settings.target.max_error or 0.0)
        if coded.error.total > bound and not force:
            raise ErrorBoundError(
                f"{version.ref} has error {coded.error.total:.4g} in {basis.ref}, whose members have at most {bound:.4g}",
                hint="--force records it all the same",
            )
        staged.write(coded.data)
        with rooms.vault.holding():
            stored = rooms.vault.keep(staged)
            with rooms.catalog.writing() as tx:
                row = replace(coded.row(RD, stored.digest), absent=_absent({shape.name for shape in basis.layout}, version))
                return members.add(tx, bases.get(tx, basis.ref), versions.get(tx, version.ref), row)


def candidates(version: Version, earlier: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[str]:
    """Which of the forms ``earlier`` (object and references, by version, in order) may be references of ``version``: its
    parent's, then those of its own name, the newest first, then the first others; four at most, each once, then those that
    they need. A form that needs as many itself as one may is none: the chain ends there."""
    kin = sorted((ref for ref in earlier if Ref.parse(ref).name == version.name), key=_number, reverse=True)
    order = dict.fromkeys([version.parent or "", *kin, *earlier])
    near = [earlier[ref] for ref in order if ref in earlier and len(earlier[ref][1]) < REFERENCES]
    needs = dict(near)
    first = list(dict.fromkeys(digest for digest, _ in near))[:MOST_REFERENCES]
    return list(dict.fromkeys([*first, *(needed for digest in first for needed in needs[digest])]))


def _check(chosen: Sequence[Version], accept_generation_loss: bool) -> None:
    each_once(chosen, "a basis")
    same_base_model(chosen)
    plain_lora(chosen)
    if not accept_generation_loss:
        not_bounded(chosen)


def _best_references_first(rooms: Rooms, chosen: Sequence[Version]) -> list[Version]:
    """``chosen`` in the order of coding: whoever has most to say first, so that it is there for the others, but the versions of
    one adapter one after the other, each after the one that it was made from."""
    extents = {}
    for version in chosen:
        with load(rooms, version) as loaded:
            extents[version.ref] = coder.extent(loaded.adapter)
    lines = lineages(chosen)
    order = sorted(range(len(chosen)), key=lambda i: (-extents[lines[chosen[i].ref][0]], lines[chosen[i].ref], i))
    return [chosen[i] for i in order]


def lineages(chosen: Sequence[Version]) -> dict[str, tuple[str, ...]]:
    """By reference, of each version those of ``chosen`` that it comes from, the first one first, and itself: parent by parent,
    or where the parent is not among them the one before of its name."""
    last: dict[str, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for version in sorted(chosen, key=lambda version: version.id):  # a parent is older than its children
        start = version.parent if version.parent in found else last.get(version.name, "")
        found[version.ref] = (*found.get(start or "", ()), version.ref)
        last[version.name] = version.ref
    return found


def _coded(
    rooms: Rooms, chosen: Sequence[Version], settings: Settings, shelf: _Shelf, progress: Progress | None
) -> Iterator[NewMember]:
    """The row of each form, its bytes on the shelf; one adapter is open at a time. ``chosen`` are in the order of coding."""
    earlier: Earlier = {}
    done, total = 0, sum(version.parameters for version in chosen)
    everywhere = {shape.name for version in chosen for shape in version.modules}
    for version in chosen:
        references = {digest: shelf.get(digest) for digest in candidates(version, earlier)}
        step = None if progress is None else part(progress, done, version.parameters, total)
        with load(rooms, version) as loaded:
            coded = _encode(loaded.adapter, settings, references, step)
            row = replace(coded.row(RD, shelf.put(coded.data)), absent=_absent(everywhere, version))
            if loaded.form is not None:
                error = in_all(coded.error, DeltaError(loaded.form.error, loaded.form.module_errors))
                row = replace(row, error=error.total, module_errors=error.modules, error_kind="bound")
        earlier[version.ref] = (row.object, row.references)
        done += version.parameters
        if progress is not None:
            progress(done, total)
        yield row


def _absent(modules: Set[str], version: Version) -> tuple[str, ...]:
    """Those of ``modules`` that ``version`` lacks."""
    return tuple(sorted(modules - {shape.name for shape in version.modules}))


def _encode(
    adapter: Adapter, settings: Settings, references: Mapping[str, coding.Buffer], progress: Progress | None
) -> coding.Coded:
    return coding.encode(adapter, settings.target, effort=settings.effort, references=references, progress=progress)


def part(progress: Progress, before: int, size: int, total: int) -> Progress:
    """What tells of one piece of ``size`` within ``total``, ``before`` being done already."""
    return lambda done, all_: progress(before + size * done // max(all_, 1), total)


def _row(name: str, base_model: str, layout: Layout, settings: Settings, rows: Sequence[NewMember]) -> NewBasis:
    errors = [row.error for row in rows]
    return NewBasis(
        name=name, base_model=base_model, layout=layout, codec=RD, gauge=GAUGE, components=None, dtype=DTYPE, object=None,
        bytes=0, settings=settings.text(), error_mean=sum(errors) / len(errors), error_worst=max(errors),
        error_kind="bound" if any(row.error_kind == "bound" for row in rows) else "measured",
    )  # fmt: skip


def _record(tx: Connection, *, new: NewBasis, rows: Sequence[tuple[Version, NewMember]]) -> Basis:
    basis = bases.add(tx, new)
    for version, row in rows:
        members.add(tx, basis, versions.get(tx, version.ref), row)
    return bases.get(tx, basis.ref)


def _number(ref: str) -> int:
    return Ref.parse(ref).version or 0


def _age(member: Member) -> int:
    return member.id


class _Shelf:
    """Coded objects on their way into the vault, one after the other in one staged file: a thousand need one descriptor."""

    def __init__(self, staged: Staged) -> None:
        self._staged = staged
        self._places: dict[str, tuple[int, int]] = {}

    def put(self, data: bytes) -> str:
        """Append ``data`` unless it is there, and return its digest."""
        digest = sha256(data).hexdigest()
        if digest not in self._places:
            start = self._staged.size
            self._staged.write(data)
            self._places[digest] = (start, start + len(data))
        return digest

    def get(self, digest: str) -> bytes:
        start, end = self._places[digest]
        with self._staged.view() as mapped:
            return bytes(mapped.buffer[start:end])

    def keep(self, vault: Vault) -> None:
        """Make every object durable."""
        for digest in self._places:
            vault.put_bytes(self.get(digest))
