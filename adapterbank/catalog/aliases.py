"""Aliases: movable names of one version each, set by compare-and-swap, every move kept."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, RowMapping, select

from adapterbank.catalog import digests, names, versions
from adapterbank.catalog import tables as t
from adapterbank.catalog.clock import now
from adapterbank.catalog.rows import Alias, AliasEvent
from adapterbank.errors import ConflictError, NotFoundError
from adapterbank.refs import Ref, check_alias

Expect = int | None | Literal["any"]


def set_alias(tx: Connection, name: str, alias: str, number: int, *, expect: Expect = "any") -> AliasEvent:
    """Let ``name@alias`` mean version ``number``.

    ``expect`` is the number that it must mean now, None if it must not exist, ``"any"`` not to care. Raises ConflictError
    when it means something else: somebody was faster. Setting it to what it means already is no move and leaves no event.
    """
    version = versions.get(tx, Ref(name=name, version=number))
    name_id = _name_id(tx, name)
    row = _row(tx, name_id, check_alias(alias))
    old = row[t.versions.c.number] if row is not None else None
    _compare(f"{name}@{alias}", expect, old)
    if old == number:
        return AliasEvent(alias, old, number, now())
    if row is None:
        digests.insert(tx, t.aliases, {"name_id": name_id, "alias": alias, "version_id": version.id})
    else:
        digests.update(tx, t.aliases, {"name_id": name_id, "alias": alias}, {"version_id": version.id})
    return _event(tx, name_id, alias, old, number)


def remove(tx: Connection, name: str, alias: str, *, expect: Expect = "any") -> AliasEvent:
    """Remove an alias; its history stays. Raises NotFoundError if there is none, ConflictError as ``set_alias``."""
    name_id = _name_id(tx, name)
    row = _row(tx, name_id, alias)
    if row is None:
        raise NotFoundError(f"{name!r} has no alias {alias!r}", hint=f"adapterbank alias list {name}")
    old = row[t.versions.c.number]
    _compare(f"{name}@{alias}", expect, old)
    tx.execute(t.aliases.delete().where(t.aliases.c.name_id == name_id, t.aliases.c.alias == alias))
    return _event(tx, name_id, alias, old, None)


def listing(tx: Connection, name: str | None = None) -> list[Alias]:
    """All aliases by name, of one adapter if ``name`` is given."""
    statement = (
        select(t.names.c.name, t.aliases.c.alias, t.versions.c.number)
        .join_from(t.aliases, t.names)
        .join(t.versions, t.versions.c.id == t.aliases.c.version_id)
        .order_by(t.names.c.name, t.aliases.c.alias)
    )
    if name is not None:
        statement = statement.where(t.names.c.id == _name_id(tx, name))
    return [Alias(*row) for row in tx.execute(statement)]


def history(tx: Connection, name: str) -> list[AliasEvent]:
    """Every move of the aliases of an adapter, oldest first."""
    c = t.alias_events.c
    statement = select(c.alias, c.old, c.new, c.created).where(c.name_id == _name_id(tx, name)).order_by(c.id)
    return [AliasEvent(*row) for row in tx.execute(statement)]


def _name_id(tx: Connection, name: str) -> int:
    found = names.find(tx, names.ADAPTER, name)
    if found is None:
        raise NotFoundError(f"no adapter is called {name!r}", hint="adapterbank list")
    return found


def _row(tx: Connection, name_id: int, alias: str) -> RowMapping | None:
    statement = select(t.versions.c.number).join_from(t.aliases, t.versions, t.aliases.c.version_id == t.versions.c.id)
    return tx.execute(statement.where(t.aliases.c.name_id == name_id, t.aliases.c.alias == alias)).mappings().first()


def _compare(label: str, expect: Expect, old: int | None) -> None:
    if expect != "any" and expect != old:
        meant, wanted = ("nothing" if number is None else f"version {number}" for number in (old, expect))
        raise ConflictError(
            f"{label} means {meant} now, expected {wanted}",
            hint=f"adapterbank history {label.partition('@')[0]}, then try again",
        )


def _event(tx: Connection, name_id: int, alias: str, old: int | None, new: int | None) -> AliasEvent:
    event = AliasEvent(alias, old, new, now())
    values = {"name_id": name_id, "alias": alias, "old": old, "new": new, "created": event.created}
    digests.insert(tx, t.alias_events, values)
    return event
