"""Stored forms of versions, each with the error measured from what is stored: members of bases, and those coded alone."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, ColumnElement, Connection, RowMapping, select

from adapterbank.catalog import digests, edges, layouts, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Basis, Member, NewMember, Version
from adapterbank.container import canonical_json
from adapterbank.errors import ConflictError, NotFoundError, UsageError

_BASIS_NAMES = t.names.alias("basis_names")
_REFERENCES = (
    select(t.edges.c.dependent, t.members.c.object, t.names.c.name, t.versions.c.number)
    .join_from(t.edges, t.members, t.members.c.id == t.edges.c.needed)
    .join(t.versions, t.versions.c.id == t.members.c.version_id)
    .join(t.names, t.names.c.id == t.versions.c.name_id)
    .where(t.edges.c.kind == edges.REFERENCE)
)
_CHUNK = 500
_ROWS = (
    select(
        t.members,
        t.versions.c.number,
        t.versions.c.layout,
        t.versions.c.parameters,
        t.names.c.name,
        t.bases.c.number,
        _BASIS_NAMES.c.name,
    )
    .join_from(t.members, t.versions, t.versions.c.id == t.members.c.version_id)
    .join(t.names, t.names.c.id == t.versions.c.name_id)
    .outerjoin(t.bases, t.bases.c.id == t.members.c.basis_id)
    .outerjoin(_BASIS_NAMES, _BASIS_NAMES.c.id == t.bases.c.name_id)
    .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
)


def add(tx: Connection, basis: Basis | None, version: Version, new: NewMember) -> Member:
    """Record the form of ``version`` in ``basis``, or with None one on its own; its bytes must be in the vault.

    Raises ConflictError if it has that form already, UsageError for errors of modules that the version does not have and for
    references that are no forms beside it, or need others that are not named before them.
    """
    refuse_second(tx, basis, version, new.codec)
    needed = _references(tx, basis, new.references)
    node = objects.new_node(tx, "member")
    values = {
        "id": node,
        "basis_id": None if basis is None else basis.id,
        "version_id": version.id,
        "absent": canonical_json(sorted(new.absent)),
        "module_errors": _pack(module_names(version), new.module_errors, version.ref),
        "reference_objects": canonical_json(new.references),
        **{field: getattr(new, field) for field in ("codec", "object", "bytes", "error", "error_kind")},
    }
    digests.insert(tx, t.members, values)
    if basis is not None:
        edges.add(tx, node, basis.id, edges.MEMBER)
    for reference in needed:
        edges.add(tx, node, reference, edges.REFERENCE)
    edges.add(tx, node, objects.register(tx, new.object, new.bytes), edges.FORM)
    return select_members(tx, t.members.c.id == node)[0]


def refuse_second(tx: Connection, basis: Basis | None, version: Version, codec: str) -> None:
    """Raise ConflictError if ``version`` is a member of ``basis`` already, or with None was coded on its own by ``codec``."""
    if (alone(tx, version, codec) if basis is None else _select(tx, basis, version)) is None:
        return
    where = f"coded as {codec} on its own" if basis is None else f"a member of {basis.ref}"
    hint = f"adapterbank show {version.ref}" if basis is None else f"adapterbank basis show {basis.ref}"
    raise ConflictError(f"{version.ref} is {where} already", hint=hint)


def get(tx: Connection, basis: Basis, version: Version) -> Member:
    """The form of ``version`` in ``basis``, its row checked; NotFoundError if it is not a member."""
    found = _select(tx, basis, version)
    if found is None:
        raise NotFoundError(f"{version.ref} is not a member of {basis.ref}", hint=f"adapterbank basis show {basis.ref}")
    return found


def alone(tx: Connection, version: Version, codec: str) -> Member | None:
    """The form of ``version`` that was coded on its own by ``codec``, if there is one."""
    c = t.members.c
    found = select_members(tx, c.basis_id.is_(None) & (c.version_id == version.id) & (c.codec == codec))
    return found[0] if found else None


def of_basis(tx: Connection, basis: Basis) -> list[Member]:
    """The members of a basis by name and number."""
    return sorted(select_members(tx, t.members.c.basis_id == basis.id), key=lambda member: _order(member.version))


def of_version(tx: Connection, version: Version) -> list[Member]:
    """The forms of a version, the one with the smallest error first; of equal ones those that stand alone."""
    found = select_members(tx, t.members.c.version_id == version.id)
    return sorted(found, key=lambda member: (member.error, _order(member.basis or "@0"), member.codec))


def select_members(tx: Connection, where: ColumnElement[bool]) -> list[Member]:
    """The members that satisfy ``where``, each row checked against its digest."""
    rows = tx.execute(_ROWS.where(where)).mappings().all()
    for row in rows:
        digests.check(t.members, row)
    shapes = layouts.load(tx, (row[t.versions.c.layout] for row in rows))
    modules = {digest: tuple(sorted({shape.name for shape in layout})) for digest, layout in shapes.items()}
    referred = _referred(tx, rows)
    return [_value(row, modules[row[t.versions.c.layout]], referred) for row in rows]


def _select(tx: Connection, basis: Basis, version: Version) -> Member | None:
    found = select_members(tx, (t.members.c.basis_id == basis.id) & (t.members.c.version_id == version.id))
    return found[0] if found else None


def _references(tx: Connection, basis: Basis | None, digests: Sequence[str]) -> list[int]:
    """The nodes of the forms beside the one to be added that have these objects, in their order."""
    c, found = t.members.c, []
    beside = c.basis_id.is_(None) if basis is None else c.basis_id == basis.id
    for place, digest in enumerate(digests):
        row = tx.execute(select(c.id, c.reference_objects).where(beside, c.object == digest).order_by(c.id).limit(1)).first()
        if row is None or not set(json.loads(row.reference_objects)) <= set(digests[:place]):
            where = "among the forms that stand alone" if basis is None else f"in {basis.ref}"
            raise UsageError(f"no form {where} has the object sha256:{digest} and needs only what is named before it")
        found.append(row.id)
    return found


def _referred(tx: Connection, rows: Sequence[RowMapping]) -> dict[tuple[int, str], str]:
    """The versions that these forms were coded against, by form and object."""
    wanted = [row[t.members.c.id] for row in rows if row[t.members.c.reference_objects] != "[]"]
    found = {}
    for start in range(0, len(wanted), _CHUNK):
        for node, digest, name, number in tx.execute(
            _REFERENCES.where(t.edges.c.dependent.in_(wanted[start : start + _CHUNK]))
        ):
            found[node, digest] = f"{name}@{number}"
    return found


def module_names(version: Version) -> tuple[str, ...]:
    """The order of a form's per-module errors: the version's module names, sorted, each once."""
    return tuple(sorted({shape.name for shape in version.modules}))


def _pack(modules: tuple[str, ...], errors: Mapping[str, float], label: str) -> bytes:
    unknown = sorted(set(errors) - set(modules))
    if unknown:
        raise UsageError(f"errors were given for modules that {label} does not have: {', '.join(unknown[:3])}")
    return struct.pack(f"<{len(modules)}f", *(errors.get(module, math.nan) for module in modules))


def _unpack(modules: tuple[str, ...], blob: bytes) -> dict[str, float]:
    """Errors by module; one that was not given is left out."""
    values = struct.unpack(f"<{len(blob) // 4}f", blob)
    return {module: value for module, value in zip(modules, values, strict=True) if not math.isnan(value)}


def _order(ref: str) -> tuple[str, int]:
    name, _, number = ref.partition("@")
    return name, int(number)


def _value(row: RowMapping, modules: tuple[str, ...], referred: Mapping[tuple[int, str], str]) -> Member:
    c = t.members.c
    needed = tuple(json.loads(row[c.reference_objects]))
    return Member(
        id=row[c.id],
        basis=None if row[c.basis_id] is None else f"{row[_BASIS_NAMES.c.name]}@{row[t.bases.c.number]}",
        version=f"{row[t.names.c.name]}@{row[t.versions.c.number]}",
        codec=row[c.codec],
        object=row[c.object],
        references=tuple(referred[row[c.id], digest] for digest in needed if (row[c.id], digest) in referred),
        reference_objects=needed,
        bytes=row[c.bytes],
        error=row[c.error],
        error_kind=row[c.error_kind],
        absent=tuple(json.loads(row[c.absent])),
        module_errors=_unpack(modules, row[c.module_errors]),
        parameters=row[t.versions.c.parameters],
    )
