"""Objects of the vault as the catalog knows them, and those that a committed command released."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sqlalchemy import Connection, bindparam, exists, select

from adapterbank.catalog import digests
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import StoredObject
from adapterbank.errors import IntegrityError

_CHUNK = 500
_OBJECTS = select(t.objects.c.digest, t.objects.c.bytes)
_RELEASED = select(t.released.c.digest, t.released.c.bytes).order_by(t.released.c.digest)
_BY_DIGEST = select(t.objects).where(t.objects.c.digest == bindparam("digest"))
_WANTED_AGAIN = t.released.delete().where(t.released.c.digest == bindparam("digest"))
_NEW_NODE = t.nodes.insert()
_UNNEEDED = ~exists().where(t.edges.c.needed == t.objects.c.id)


def register(tx: Connection, digest: str, size: int) -> int:
    """The node id of an object, made if it is new. Its bytes must be in the vault, under the shared lock, since before.

    An object that waits to be deleted is wanted again: it leaves the table ``released``.
    """
    row = tx.execute(_BY_DIGEST, {"digest": digest}).mappings().first()
    if row is not None:
        if row["bytes"] != size:
            raise IntegrityError(
                f"object {digest[:12]} has {size} bytes, the catalog says {row['bytes']}", hint="adapterbank verify"
            )
        return row["id"]  # type: ignore[no-any-return]
    tx.execute(_WANTED_AGAIN, {"digest": digest})
    node = new_node(tx, "object")
    digests.insert(tx, t.objects, {"id": node, "digest": digest, "bytes": size})
    return node


def new_node(tx: Connection, kind: str) -> int:
    """A new id in ``nodes``; no id is ever given twice."""
    key = tx.execute(_NEW_NODE, {"kind": kind}).inserted_primary_key
    assert key is not None
    return key[0]  # type: ignore[no-any-return]


def listing(tx: Connection) -> Iterator[StoredObject]:
    """All objects that rows need, by digest."""
    for row in tx.execute(_OBJECTS.order_by(t.objects.c.digest)):
        yield StoredObject(*row)


def unreferenced(tx: Connection) -> list[StoredObject]:
    """Objects with a row but without anything that needs them; none, unless a command went wrong."""
    return [StoredObject(*row) for row in tx.execute(_OBJECTS.where(_UNNEEDED))]


def release(tx: Connection, ids: Iterable[int]) -> list[StoredObject]:
    """Of these objects, take out those that nothing needs any more and note them in ``released``; return them."""
    wanted, gone = sorted(set(ids)), []
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        for row in tx.execute(_OBJECTS.add_columns(t.objects.c.id).where(t.objects.c.id.in_(chunk), _UNNEEDED)).all():
            tx.execute(t.released.insert(), {"digest": row.digest, "bytes": row.bytes})
            _take_out(tx, row.id)
            gone.append(StoredObject(row.digest, row.bytes))
    return gone


def released(tx: Connection) -> list[StoredObject]:
    """Objects that committed commands released and whose bytes may still be there.

    Read them under the vault's exclusive lock, delete their bytes, then ``forget_released``: in this order a crash leaves
    nothing but work to be done again.
    """
    return [StoredObject(*row) for row in tx.execute(_RELEASED)]


def forget_released(tx: Connection, gone: Collection[str]) -> None:
    """The bytes of these digests are deleted: forget them, and any row of an object that nothing needs."""
    for digest in gone:
        tx.execute(t.released.delete().where(t.released.c.digest == digest))
        node = tx.scalar(select(t.objects.c.id).where(t.objects.c.digest == digest, _UNNEEDED))
        if node is not None:
            _take_out(tx, node)


def _take_out(tx: Connection, node: int) -> None:
    tx.execute(t.objects.delete().where(t.objects.c.id == node))
    tx.execute(t.nodes.delete().where(t.nodes.c.id == node))
