"""An empty bank for each test, copied from one that was made once, and seeded adapters to put into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapterbank import Bank
from tests.adapters import write_adapter

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "bank"
    Bank.open(folder, create=True).close()
    return folder


@pytest.fixture
def place(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "bank"))


@pytest.fixture
def bank(place: Path) -> Iterator[Bank]:
    with Bank.open(place) as bank:
        yield bank


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(name, …)`` writes the adapter ``in/name``; arguments as for ``write_adapter``."""
    return lambda name, **how: write_adapter(tmp_path / "in" / name, **how)


@pytest.fixture
def add(bank: Bank, make: Make) -> Callable[..., Path]:
    """``add(name, …)`` writes and registers an adapter and returns its directory."""

    def adding(name: str, **how: Any) -> Path:
        directory = make(name, **how)
        bank.register(directory, name=name)
        return directory

    return adding
