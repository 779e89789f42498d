"""Which stored form stands for a version: the one that was named, else the one with the smallest error."""

from __future__ import annotations

from sqlalchemy import Connection

from adapterbank.catalog import bases, members
from adapterbank.catalog.rows import Member, Version
from adapterbank.errors import NotFoundError


def form_of(tx: Connection, version: Version, basis: str | None, codec: str | None = None) -> Member:
    """The form of ``version`` in ``basis``, or of its forms by ``codec`` (by default of all) the one with the smallest error.

    Raises NotFoundError if there is none.
    """
    if basis is not None:
        return members.get(tx, bases.get(tx, basis), version)
    found = [form for form in members.of_version(tx, version) if codec in (None, form.codec)]
    if not found:
        by = "" if codec is None else f" by the codec {codec}"
        raise NotFoundError(
            f"{version.ref} has no stored form{by}, so nothing but its exact bytes stands for it",
            hint=f"adapterbank encode {version.ref}, or adapterbank basis build NAME {version.ref} …",
        )
    return found[0]
