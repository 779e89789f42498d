"""What every part of the façade stands on: the rooms, and references to versions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from adapterbank.catalog import versions
from adapterbank.catalog.rows import Version
from adapterbank.errors import UsageError
from adapterbank.ways.rooms import Rooms

VARIABLE = "ADAPTERBANK"


class Opened:
    """An open bank without methods."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms

    def _found(self, refs: Sequence[str]) -> list[Version]:
        """The versions of ``refs``, seen in one state of the catalog. Raises UsageError for a text instead of a list."""
        if isinstance(refs, str):
            raise UsageError(f"got the text {refs!r} where a list of references is expected: [{refs!r}]")
        with self.rooms.catalog.reading() as tx:
            return [versions.get(tx, ref) for ref in refs]


def default_place() -> Path | str:
    """Where the bank is when nobody says: the variable ``ADAPTERBANK``, else the user's data folder."""
    return os.environ.get(VARIABLE) or platformdirs.user_data_path("adapterbank", appauthor=False)
