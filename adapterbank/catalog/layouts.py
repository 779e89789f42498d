"""Module shapes, stored once per distinct layout: ten thousand adapters of one kind share one row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import Connection, bindparam, select

from adapterbank.catalog.tables import layouts
from adapterbank.errors import IntegrityError
from adapterbank.lora.layout import Layout

_BODIES = select(layouts).where(layouts.c.digest.in_(bindparam("digests", expanding=True)))
_KNOWN = select(layouts.c.digest).where(layouts.c.digest == bindparam("digest"))
_CHUNK = 500


def put(tx: Connection, layout: Layout) -> str:
    """Store ``layout`` if it is new and return the digest of its canonical JSON."""
    body = layout.to_json()
    digest = hashlib.sha256(body.encode()).hexdigest()
    if tx.execute(_KNOWN, {"digest": digest}).first() is None:
        tx.execute(layouts.insert(), {"digest": digest, "body": body})
    return digest


def load(tx: Connection, digests: Iterable[str]) -> dict[str, Layout]:
    """The layouts of these digests, each read once."""
    wanted, found = sorted(set(digests)), {}
    for start in range(0, len(wanted), _CHUNK):
        for row in tx.execute(_BODIES, {"digests": wanted[start : start + _CHUNK]}):
            found[row.digest] = parse(row.digest, row.body)
    return found


@lru_cache(maxsize=256)
def parse(digest: str, body: str) -> Layout:
    """The layout of a stored row; IntegrityError if the text is not the one that was stored."""
    if hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest() != digest:
        raise IntegrityError(f"layout {digest[:12]} is not what its digest says: the database was changed or damaged")
    return Layout.from_json(body)
