"""Adapters and their immutable versions.

A version's ``id`` is the integer id for serving engines: it comes from the table of nodes, which gives no id twice, so a
prefix cache keyed by it can never meet other weights under the same key.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, select

from adapterbank.catalog import base_models, digests, edges, layouts, metrics, names, objects, records, tags
from adapterbank.catalog import tables as t
from adapterbank.catalog.clock import now
from adapterbank.catalog.rows import NewVersion, Version
from adapterbank.container import canonical_json
from adapterbank.errors import ConflictError, NotFoundError
from adapterbank.lora.layout import Layout
from adapterbank.refs import Ref

_SHOWN = 8

_WITH_LAYOUT = records.ROWS.add_columns(t.layouts).join(t.layouts, t.layouts.c.digest == t.versions.c.layout)
_OF_NAME = _WITH_LAYOUT.where(t.names.c.kind == names.ADAPTER, t.names.c.name == bindparam("name"))
_NEWEST = _OF_NAME.order_by(t.versions.c.number.desc()).limit(1)
_NUMBERED = _OF_NAME.where(t.versions.c.number == bindparam("number"))
_ALIASED = _OF_NAME.add_columns(t.aliases).join(
    t.aliases,
    (t.aliases.c.version_id == t.versions.c.id)
    & (t.aliases.c.name_id == t.names.c.id)
    & (t.aliases.c.alias == bindparam("alias")),
)
# A range, not LIKE: it uses the index and is case-sensitive on every database ("g" follows the last hex digit).
_PREFIXED = (
    _WITH_LAYOUT.where(t.versions.c.files >= bindparam("low"), t.versions.c.files < bindparam("high"))
    .order_by(t.versions.c.id)
    .limit(_SHOWN + 1)
)


def add(tx: Connection, new: NewVersion) -> Version:
    """Add the next version of ``new.name`` with its objects' rows and edges; their bytes must be in the vault.

    Raises ConflictError if the name differs only in case from another, or holds a version of the same ``files`` (ask
    ``find_by_files`` first); NotFoundError if ``parent`` does not exist.
    """
    model = base_models.get_or_create(tx, new.base_model)
    name_id, number = names.claim(tx, names.ADAPTER, new.name)
    node = objects.new_node(tx, "version")
    values = {
        "id": node,
        "name_id": name_id,
        "number": number,
        "base_model_id": model.id,
        "layout": layouts.put(tx, Layout.of(new.modules)),
        "level": "original",
        "target_modules": canonical_json(sorted(new.target_modules)),
        "carried": canonical_json(list(new.carried)),
        "bytes": new.config_size + new.weights_size,
        "parent": get(tx, new.parent).ref if new.parent is not None else None,
        "created": now(),
    }
    digests.insert(tx, t.versions, {**_facts(new), **values})
    edges.add(tx, node, objects.register(tx, new.config, new.config_size), edges.CONFIG)
    edges.add(tx, node, objects.register(tx, new.weights, new.weights_size), edges.WEIGHTS)
    tags.put(tx, node, new.tags)
    metrics.put(tx, node, new.metrics)
    return get(tx, Ref(name=new.name, version=number))


def get(tx: Connection, ref: str | Ref) -> Version:
    """The version of a reference (``name``, ``name@3``, ``name@alias``, ``sha256:prefix`` of its files), its rows checked.

    Two statements, whatever the size of the bank. Raises UsageError for a malformed reference, NotFoundError,
    ConflictError for an ambiguous prefix (it lists what begins so), IntegrityError for a damaged row.
    """
    ref = Ref.parse(ref) if isinstance(ref, str) else ref
    statement, parameters = _query(ref)
    rows = tx.execute(statement, parameters).mappings().all()
    if not rows:
        raise _not_found(tx, ref)
    if len(rows) > 1:
        shown = ", ".join(f"{row[t.names.c.name]}@{row[t.versions.c.number]}" for row in rows[:_SHOWN])
        more = " and more" if len(rows) > _SHOWN else ""
        raise ConflictError(f"{ref} is ambiguous: {shown}{more}", hint="give more digits, or name@number")
    return _checked(tx, rows[0], aliased=ref.alias is not None)


def find_by_files(tx: Connection, files: str, name: str | None = None) -> Version | None:
    """The newest version with exactly these bytes, of ``name`` if given."""
    return _newest_of(tx, "files", files, name)


def find_by_content(tx: Connection, content: str, name: str | None = None) -> Version | None:
    """The newest version with the same tensors and effective configuration, of ``name`` if given."""
    return _newest_of(tx, "content", content, name)


def of_name(tx: Connection, name: str) -> list[Version]:
    """All versions of an adapter, oldest first; NotFoundError if the name was never used."""
    if names.find(tx, names.ADAPTER, name) is None:
        raise _not_found(tx, Ref(name=name))
    rows = tx.execute(records.ROWS.where(t.names.c.kind == names.ADAPTER, t.names.c.name == name).order_by(t.versions.c.number))
    return records.several(tx, rows.mappings())


def _facts(new: NewVersion) -> dict[str, Any]:
    """The fields that are stored as they are given."""
    fields = (
        "files",
        "content",
        "config",
        "weights",
        "kind",
        "dtype",
        "rank",
        "alpha",
        "rslora",
        "parameters",
        "obstacle",
        "naming",
        "method",
        "note",
    )
    return {field: getattr(new, field) for field in fields}


def _query(ref: Ref) -> tuple[Select[Any], dict[str, Any]]:
    if ref.digest is not None:
        return _PREFIXED, {"low": ref.digest, "high": ref.digest + "g"}
    if ref.version is not None:
        return _NUMBERED, {"name": ref.name, "number": ref.version}
    if ref.alias is not None:
        return _ALIASED, {"name": ref.name, "alias": ref.alias}
    return _NEWEST, {"name": ref.name}


def _checked(tx: Connection, row: RowMapping, *, aliased: bool = False) -> Version:
    for table in (t.versions, t.names, t.base_models, *((t.aliases,) if aliased else ())):
        digests.check(table, row)
    layout = layouts.parse(row[t.layouts.c.digest], row[t.layouts.c.body])
    node = row[t.versions.c.id]
    return records.version(row, layout, records.labels(tx, [node])[node])


def _newest_of(tx: Connection, column: str, digest: str, name: str | None) -> Version | None:
    parameters = {"digest": digest} if name is None else {"digest": digest, "name": name}
    row = tx.execute(_newest_query(column, name is not None), parameters).mappings().first()
    return None if row is None else _checked(tx, row)


@cache
def _newest_query(column: str, of_name: bool) -> Select[Any]:
    rows = _OF_NAME if of_name else _WITH_LAYOUT
    return rows.where(t.versions.c[column] == bindparam("digest")).order_by(t.versions.c.id.desc()).limit(1)


def _not_found(tx: Connection, ref: Ref) -> NotFoundError:
    """Say which part of the reference does not exist, and what does."""
    if ref.name is None:
        return NotFoundError(f"no version has files that begin with {ref}", hint="adapterbank list")
    name_id = names.find(tx, names.ADAPTER, ref.name)
    if name_id is None:
        twin = names.twin(tx, names.ADAPTER, ref.name)
        return NotFoundError(
            f"no adapter is called {ref.name!r}", hint=f"did you mean {twin!r}?" if twin else "adapterbank list"
        )
    if ref.alias is not None:
        known = tx.scalars(select(t.aliases.c.alias).where(t.aliases.c.name_id == name_id).order_by(t.aliases.c.alias)).all()
        what, known_text = f"alias {ref.alias!r}", ", ".join(known)
    else:
        numbers = tx.scalars(
            select(t.versions.c.number).where(t.versions.c.name_id == name_id).order_by(t.versions.c.number)
        ).all()
        what = f"version {ref.version}" if ref.version is not None else "version left"
        known_text = ", ".join(map(str, numbers))
    return NotFoundError(f"{ref.name!r} has no {what} (it has: {known_text or 'none'})", hint=f"adapterbank history {ref.name}")
