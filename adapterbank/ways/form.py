"""Which stored form stands for a version: the one in a basis that was named, else the one with the smallest error."""

from __future__ import annotations

from sqlalchemy import Connection

from adapterbank.catalog import bases, members
from adapterbank.catalog.rows import Member, Version
from adapterbank.errors import NotFoundError


def form_of(tx: Connection, version: Version, basis: str | None) -> Member:
    """The member of ``version``. Raises NotFoundError if it has none, or none in ``basis``."""
    if basis is not None:
        return members.get(tx, bases.get(tx, basis), version)
    found = members.of_version(tx, version)
    if not found:
        raise NotFoundError(
            f"{version.ref} is not a member of any basis, so nothing but its exact bytes stands for it",
            hint=f"adapterbank basis build NAME {version.ref} …, or adapterbank basis add NAME {version.ref}",
        )
    return found[0]
