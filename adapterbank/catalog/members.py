"""Stored forms of versions, each with the error measured from what is stored: members of bases, and those coded alone."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, ColumnElement, Connection, RowMapping, String, cast, select

from adapterbank.catalog import digests, edges, layouts, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Basis, Member, NewMember, Version
from adapterbank.container import canonical_json
from adapterbank.errors import ConflictError, NotFoundError, UsageError

_BASIS_NAMES = t.names.alias("basis_names")
_NEEDED, _NEEDED_VERSIONS, _NEEDED_NAMES = t.members.alias(), t.versions.alias(), t.names.alias()
_REFERENCE = (
    select(_NEEDED_NAMES.c.name + "@" + cast(_NEEDED_VERSIONS.c.number, String))
    .join_from(t.edges, _NEEDED, _NEEDED.c.id == t.edges.c.needed)
    .join(_NEEDED_VERSIONS, _NEEDED_VERSIONS.c.id == _NEEDED.c.version_id)
    .join(_NEEDED_NAMES, _NEEDED_NAMES.c.id == _NEEDED_VERSIONS.c.name_id)
    .where(t.edges.c.dependent == t.members.c.id, t.edges.c.kind == edges.REFERENCE)
    .correlate(t.members)
    .limit(1)
    .scalar_subquery()
    .label("reference_ref")
)
_ROWS = (
    select(
        t.members,
        t.versions.c.number,
        t.versions.c.layout,
        t.versions.c.parameters,
        t.names.c.name,
        t.bases.c.number,
        _BASIS_NAMES.c.name,
        _REFERENCE,
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
    a reference that is no self-contained form beside it.
    """
    refuse_second(tx, basis, version, new.codec)
    reference = None if new.reference is None else _self_contained(tx, basis, new.reference)
    node = objects.new_node(tx, "member")
    values = {
        "id": node,
        "basis_id": None if basis is None else basis.id,
        "version_id": version.id,
        "absent": canonical_json(sorted(new.absent)),
        "module_errors": _pack(module_names(version), new.module_errors, version.ref),
        **{field: getattr(new, field) for field in ("codec", "object", "reference", "bytes", "error", "error_kind")},
    }
    digests.insert(tx, t.members, values)
    if basis is not None:
        edges.add(tx, node, basis.id, edges.MEMBER)
    if reference is not None:
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
    return [_value(row, modules[row[t.versions.c.layout]]) for row in rows]


def _select(tx: Connection, basis: Basis, version: Version) -> Member | None:
    found = select_members(tx, (t.members.c.basis_id == basis.id) & (t.members.c.version_id == version.id))
    return found[0] if found else None


def _self_contained(tx: Connection, basis: Basis | None, digest: str) -> int:
    """The node of a form beside the one to be added whose object is ``digest`` and was not itself coded against another."""
    c = t.members.c
    beside = c.basis_id.is_(None) if basis is None else c.basis_id == basis.id
    node = tx.scalar(select(c.id).where(beside, c.object == digest, c.reference.is_(None)).order_by(c.id).limit(1))
    if node is None:
        place = "among the forms that stand alone" if basis is None else f"in {basis.ref}"
        raise UsageError(f"no self-contained form {place} has the object sha256:{digest}, so none can be coded against it")
    return int(node)


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


def _value(row: RowMapping, modules: tuple[str, ...]) -> Member:
    c = t.members.c
    return Member(
        id=row[c.id],
        basis=None if row[c.basis_id] is None else f"{row[_BASIS_NAMES.c.name]}@{row[t.bases.c.number]}",
        version=f"{row[t.names.c.name]}@{row[t.versions.c.number]}",
        codec=row[c.codec],
        object=row[c.object],
        reference=row["reference_ref"],
        reference_object=row[c.reference],
        bytes=row[c.bytes],
        error=row[c.error],
        error_kind=row[c.error_kind],
        absent=tuple(json.loads(row[c.absent])),
        module_errors=_unpack(modules, row[c.module_errors]),
        parameters=row[t.versions.c.parameters],
    )
