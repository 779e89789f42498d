"""The façade: one method per thing a user wants, each a straight way through the rooms.

Importing it brings neither torch nor peft; the ways that compute import them when they are walked. The methods stand in
one file per noun; this one opens and closes.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from adapterbank.bank.adapters import Adapters
from adapterbank.bank.bases import Bases
from adapterbank.bank.blends import Blends
from adapterbank.bank.calibrations import Calibrations
from adapterbank.bank.forms import Forms
from adapterbank.bank.opened import default_place
from adapterbank.bank.servers import Servers
from adapterbank.bank.serving import Serving
from adapterbank.bank.upkeep import Upkeep
from adapterbank.catalog.session import Catalog, bank_path
from adapterbank.catalog.upgrade import upgrade
from adapterbank.vault.objects import Vault
from adapterbank.ways import results
from adapterbank.ways.rooms import Rooms

__all__ = ["Bank"]


class Bank(Adapters, Bases, Forms, Blends, Calibrations, Servers, Serving, Upkeep):
    """An open bank. Use :meth:`open`; close it, or use it in a ``with`` statement. Safe to share between threads."""

    @classmethod
    def open(cls, path: str | Path | None = None, *, create: bool = False, readonly: bool = False) -> Self:
        """Open the bank at ``path`` (a directory or a ``sqlite:`` URL; by default the user's data folder).

        With ``create`` an empty bank is made where there is none. Raises NotFoundError, SchemaError for an older or newer
        database, PlatformError on a network file system.
        """
        root = bank_path(path or default_place())
        catalog = Catalog.open(root, create=create, readonly=readonly)
        vault = Vault.create(root) if create and not readonly else Vault(root, readonly=readonly)
        return cls(Rooms(root, vault, catalog))

    @staticmethod
    def upgrade(path: str | Path | None = None) -> results.Upgraded:
        """Bring an older database to this code's schema, keeping a backup."""
        change = upgrade(bank_path(path or default_place()))
        return results.Upgraded(change.before, change.after, change.backup)

    def close(self) -> None:
        """Close the database; open mappings of objects stay valid."""
        self.rooms.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
