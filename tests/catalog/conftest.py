from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterbank.catalog.session import Catalog


@pytest.fixture(scope="session")
def empty_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new bank, made once by the migrations; tests copy it."""
    root = tmp_path_factory.mktemp("empty") / "bank"
    Catalog.open(root, create=True).close()
    return root


@pytest.fixture
def root(empty_bank: Path, tmp_path: Path) -> Path:
    target = tmp_path / "bank"
    for folder in ("locks", "backups"):
        (target / folder).mkdir(parents=True)
    (target / "catalog.db").write_bytes((empty_bank / "catalog.db").read_bytes())
    return target


@pytest.fixture
def catalog(root: Path) -> Iterator[Catalog]:
    with Catalog.open(root) as opened:
        yield opened
