"""Base models: one row per model, and every other name it goes by. Equal shapes prove nothing; this row decides."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, bindparam, select

from adapterbank.catalog import digests
from adapterbank.catalog.clock import now
from adapterbank.catalog.rows import BaseModel
from adapterbank.catalog.tables import base_model_aliases, base_models, bases, versions
from adapterbank.errors import ConflictError, NotFoundError, UsageError

_LONGEST = 512
_NAMED = select(base_models).where(base_models.c.name == bindparam("name"))
_ALIASED = (
    select(base_model_aliases, base_models)
    .join_from(base_model_aliases, base_models)
    .where(base_model_aliases.c.alias == bindparam("alias"))
)
_ALIASES = select(base_model_aliases.c.alias).where(base_model_aliases.c.base_model_id == bindparam("model"))


def add(tx: Connection, name: str, *, fingerprint: str | None = None, quantization: str | None = None) -> BaseModel:
    """Add a base model. One that exists (``name`` may be an alias) gets the facts that it lacked.

    Raises ConflictError if the name is known with another fingerprint or quantisation: that is another model.
    """
    found = find(tx, check_model_name(name))
    if found is None:
        values = {"name": name, "fingerprint": fingerprint, "quantization": quantization, "created": now()}
        digests.insert(tx, base_models, values)
        return resolve(tx, name)
    changes = {}
    for field, old, new in (
        ("fingerprint", found.fingerprint, fingerprint),
        ("quantization", found.quantization, quantization),
    ):
        if old is not None and new is not None and old != new:
            raise ConflictError(f"base model {found.name!r} has {field} {old!r}, got {new!r}: add it under a name of its own")
        if old is None and new is not None:
            changes[field] = new
    if changes:
        digests.update(tx, base_models, {"id": found.id}, changes)
    return resolve(tx, name)


def get_or_create(tx: Connection, name: str) -> BaseModel:
    """The base model that goes by ``name``, made if there is none."""
    return find(tx, check_model_name(name)) or add(tx, name)


def resolve(tx: Connection, name: str) -> BaseModel:
    """The base model of this canonical name or alias; NotFoundError lists some that exist."""
    found = find(tx, name)
    if found is None:
        known = ", ".join(tx.scalars(select(base_models.c.name).order_by(base_models.c.name).limit(5))) or "none"
        raise NotFoundError(f"no base model is called {name!r} (known: {known})", hint=f"adapterbank model add {name}")
    return found


def find(tx: Connection, name: str) -> BaseModel | None:
    """The base model of this canonical name or alias, checked against its row digest; None if there is none."""
    row = tx.execute(_NAMED, {"name": name}).mappings().first()
    if row is None:
        row = tx.execute(_ALIASED, {"alias": name}).mappings().first()
        if row is None:
            return None
        digests.check(base_model_aliases, row)
    digests.check(base_models, row)
    return _value(row, sorted(tx.scalars(_ALIASES, {"model": row[base_models.c.id]})))


def alias(tx: Connection, name: str, alias: str) -> BaseModel:
    """Let ``alias`` mean the base model ``name``. Raises ConflictError if it means another one already."""
    model = resolve(tx, name)
    taken = find(tx, check_model_name(alias))
    if taken is not None:
        if taken.id != model.id:
            raise ConflictError(
                f"{alias!r} means the base model {taken.name!r} already, not {model.name!r}",
                hint=f"if these are one model: adapterbank model join {model.name} {taken.name}",
            )
        return model
    digests.insert(tx, base_model_aliases, {"alias": alias, "base_model_id": model.id})
    return resolve(tx, name)


def join(tx: Connection, name: str, other: str) -> BaseModel:
    """Say that two rows are one model: adapters, bases and aliases of ``other`` go over to ``name``, it becomes an alias.

    Raises NotFoundError, UsageError if they are one already, ConflictError if their fingerprints or quantisations differ.
    """
    model, gone = resolve(tx, name), resolve(tx, other)
    if model.id == gone.id:
        raise UsageError(f"{name!r} and {other!r} are one base model already, {model.name!r}")
    for field, kept, left in (
        ("fingerprint", model.fingerprint, gone.fingerprint),
        ("quantization", model.quantization, gone.quantization),
    ):
        if left is not None and left != kept:
            raise ConflictError(f"{gone.name!r} has {field} {left!r}, {model.name!r} has {kept!r}: these are two models")
    for table, key in ((versions, "id"), (bases, "id"), (base_model_aliases, "alias")):
        for value in list(tx.scalars(select(table.c[key]).where(table.c.base_model_id == gone.id))):
            digests.update(tx, table, {key: value}, {"base_model_id": model.id})
    tx.execute(base_models.delete().where(base_models.c.id == gone.id))
    return alias(tx, model.name, gone.name)


def listing(tx: Connection) -> list[BaseModel]:
    """All base models by name."""
    by_model: dict[int, list[str]] = {}
    for row in tx.execute(select(base_model_aliases).order_by(base_model_aliases.c.alias)):
        by_model.setdefault(row.base_model_id, []).append(row.alias)
    rows = tx.execute(select(base_models).order_by(base_models.c.name)).mappings()
    return [_value(row, by_model.get(row["id"], ())) for row in rows]


def check_model_name(name: str) -> str:
    """Return a usable name of a base model: a hub id, a path or a served name, without control characters."""
    if not name.strip() or name != name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise UsageError(
            f"base model {name!r} is not allowed: expected 1 to {_LONGEST} printable characters, none blank at the ends"
        )
    return name


def _value(row: RowMapping, aliases: Sequence[str]) -> BaseModel:
    c = base_models.c
    return BaseModel(row[c.id], row[c.name], tuple(aliases), row[c.fingerprint], row[c.quantization], row[c.created])
