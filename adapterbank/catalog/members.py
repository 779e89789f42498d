"""Members of bases: the coefficients of one version in one basis, with the error that was measured from what is stored."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, ColumnElement, Connection, RowMapping, select

from adapterbank.catalog import digests, edges, layouts, objects
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Basis, Member, NewMember, Version
from adapterbank.container import canonical_json
from adapterbank.errors import ConflictError, NotFoundError, UsageError

_BASIS_NAMES = t.names.alias("basis_names")
_ROWS = (
    select(t.members, t.versions.c.number, t.versions.c.layout, t.names.c.name, t.bases.c.number, _BASIS_NAMES.c.name)
    .join_from(t.members, t.versions, t.versions.c.id == t.members.c.version_id)
    .join(t.names, t.names.c.id == t.versions.c.name_id)
    .join(t.bases, t.bases.c.id == t.members.c.basis_id)
    .join(_BASIS_NAMES, _BASIS_NAMES.c.id == t.bases.c.name_id)
    .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
)


def add(tx: Connection, basis: Basis, version: Version, new: NewMember) -> Member:
    """Record the form of ``version`` in ``basis``; its bytes must be in the vault.

    Raises ConflictError if it is a member already, UsageError for errors of modules that the version does not have.
    """
    held = select(t.members.c.id).where(t.members.c.basis_id == basis.id, t.members.c.version_id == version.id)
    if tx.execute(held).first() is not None:
        raise ConflictError(f"{version.ref} is a member of {basis.ref} already", hint=f"adapterbank basis show {basis.ref}")
    node = objects.new_node(tx, "member")
    values = {
        "id": node,
        "basis_id": basis.id,
        "version_id": version.id,
        "object": new.object,
        "bytes": new.bytes,
        "error": new.error,
        "error_kind": new.error_kind,
        "absent": canonical_json(sorted(new.absent)),
        "module_errors": _pack(module_names(version), new.module_errors, version.ref),
    }
    digests.insert(tx, t.members, values)
    edges.add(tx, node, basis.id, edges.MEMBER)
    edges.add(tx, node, objects.register(tx, new.object, new.bytes), edges.COEFFICIENTS)
    return get(tx, basis, version)


def get(tx: Connection, basis: Basis, version: Version) -> Member:
    """The form of ``version`` in ``basis``, its row checked; NotFoundError if it is not a member."""
    found = select_members(tx, (t.members.c.basis_id == basis.id) & (t.members.c.version_id == version.id))
    if not found:
        raise NotFoundError(f"{version.ref} is not a member of {basis.ref}", hint=f"adapterbank basis show {basis.ref}")
    return found[0]


def of_basis(tx: Connection, basis: Basis) -> list[Member]:
    """The members of a basis by name and number."""
    return sorted(select_members(tx, t.members.c.basis_id == basis.id), key=lambda member: _order(member.version))


def of_version(tx: Connection, version: Version) -> list[Member]:
    """The forms of a version, the one with the smallest error first."""
    return sorted(
        select_members(tx, t.members.c.version_id == version.id), key=lambda member: (member.error, _order(member.basis))
    )


def select_members(tx: Connection, where: ColumnElement[bool]) -> list[Member]:
    """The members that satisfy ``where``, each row checked against its digest."""
    rows = tx.execute(_ROWS.where(where)).mappings().all()
    for row in rows:
        digests.check(t.members, row)
    shapes = layouts.load(tx, (row[t.versions.c.layout] for row in rows))
    modules = {digest: tuple(sorted({shape.name for shape in layout})) for digest, layout in shapes.items()}
    return [_value(row, modules[row[t.versions.c.layout]]) for row in rows]


def module_names(version: Version) -> tuple[str, ...]:
    """The order of a member's per-module errors: the version's module names, sorted, each once."""
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
        basis=f"{row[_BASIS_NAMES.c.name]}@{row[t.bases.c.number]}",
        version=f"{row[t.names.c.name]}@{row[t.versions.c.number]}",
        object=row[c.object],
        bytes=row[c.bytes],
        error=row[c.error],
        error_kind=row[c.error_kind],
        absent=tuple(json.loads(row[c.absent])),
        module_errors=_unpack(modules, row[c.module_errors]),
    )
