"""Documents about inference servers."""

from __future__ import annotations

from typing import TypedDict


class MaterializedDocument(TypedDict):
    """A canonical directory; ``status`` is ``written`` or ``unchanged``; ``error`` is 0 where the values are the adapter's."""

    ref: str
    path: str
    status: str
    rank: int
    dtype: str
    error: float
    error_kind: str
    bytes: int


class MaterializeDocument(TypedDict):
    """Canonical directories."""

    directories: list[MaterializedDocument]


class LaunchFlagsDocument(TypedDict):
    """How a server is started for adapters of these versions: flags, environment variables, and both as one line."""

    server: str
    versions: int
    rank: int
    flags: list[str]
    environment: dict[str, str]
    line: str


class LoadedDocument(TypedDict):
    """An adapter that a running server was told to load."""

    ref: str
    name: str
    path: str
    server: str
