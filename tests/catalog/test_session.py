"""Opening a bank, the two kinds of transactions, and what they must not do."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from adapterbank.catalog import search, versions
from adapterbank.catalog.session import Catalog, bank_path
from adapterbank.errors import (
    AdapterBankError,
    BusyError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    PlatformError,
    SchemaError,
    StorageError,
    UsageError,
)
from adapterbank.locks import hold
from tests.catalog import make

NFS = "21 1 0:1 / / rw - ext4 /dev/a rw\n22 21 0:2 / {point} rw,relatime shared:9 - nfs4 server:/x rw\n"


def test_settings_say_what_is_in_force(catalog: Catalog) -> None:
    found = catalog.settings()
    expected = {"synchronous": 2, "foreign_keys": 1, "mmap_size": 0, "cell_size_check": 1, "trusted_schema": 0, "query_only": 1}
    assert {key: found[key] for key in expected} == expected
    assert found["busy_timeout"] == 30_000
    assert found["schema_revision"] == found["schema_head"]
    assert found["journal_mode"] == found["journal_wanted"]
    assert found["sqlite_version"] in found["journal_why"]


def test_writers_have_the_same_pragmas(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        pragmas = ("synchronous", "foreign_keys", "mmap_size", "cell_size_check", "trusted_schema", "query_only")
        assert [tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas] == [2, 1, 0, 1, 0, 0]


def test_reading_cannot_write(catalog: Catalog) -> None:
    with pytest.raises(StorageError, match="readonly"), catalog.reading() as tx:
        make.add(tx)


def test_an_error_rolls_everything_back(catalog: Catalog) -> None:
    with pytest.raises(ZeroDivisionError), catalog.writing() as tx:
        make.add(tx)
        raise ZeroDivisionError
    with catalog.reading() as tx:
        assert search.versions(tx) == []


def test_a_dry_run_shows_its_result_and_keeps_nothing(catalog: Catalog) -> None:
    with catalog.writing(dry_run=True) as tx:
        assert make.add(tx).ref == "sql@1"
    with catalog.reading() as tx:
        assert search.versions(tx) == []


def test_a_reader_sees_one_state(catalog: Catalog, root: Path) -> None:
    with catalog.writing() as tx:
        make.add(tx)
    with Catalog.open(root, readonly=True) as other, other.reading() as tx:
        assert len(search.versions(tx)) == 1
        with catalog.writing(dry_run=True) as writer:
            make.add(writer, seed=1)
            assert len(search.versions(tx)) == 1


def test_readonly_writes_nothing(root: Path) -> None:
    with Catalog.open(root) as catalog:
        make.fill(catalog)
    before = make.snapshot(root)
    with Catalog.open(root, readonly=True) as catalog:
        with catalog.reading() as tx:
            assert versions.get(tx, "sql@prod").number == 2
        with pytest.raises(StorageError, match="read-only"), catalog.writing():
            pass
        assert catalog.settings()["query_only"] == 1
    assert make.snapshot(root) == before


def test_a_write_waits_for_the_lock_and_says_who_is_busy(catalog: Catalog, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterbank.catalog.session.LOCK_SECONDS", 0.01)
    with hold(root / "locks" / "catalog.lock", exclusive=True, timeout=1), pytest.raises(BusyError), catalog.writing():
        pass


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("DELETE FROM names", "InUseError"),
        ("INSERT INTO tags VALUES (99, 'a', 'b')", "ConflictError"),
        ("INSERT INTO nodes (id, kind) VALUES (1, 'version')", "ConflictError"),
        ("UPDATE versions SET number = 0", "ConflictError"),
    ],
)
def test_constraints_come_as_our_errors(catalog: Catalog, statement: str, error: str) -> None:
    make.fill(catalog)
    with pytest.raises(AdapterBankError) as caught, catalog.writing() as tx:
        tx.exec_driver_sql(statement)
    assert type(caught.value).__name__ == error


def test_a_lock_of_a_foreign_program_is_a_busy_error(catalog: Catalog, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterbank.catalog.connect.BUSY_MS", 1)
    other = sqlite3.connect(root / "catalog.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BusyError, match="locked"), catalog.writing():
        pass
    other.close()


def test_no_bank_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no bank at") as caught:
        Catalog.open(tmp_path / "none")
    assert "init" in str(caught.value.hint)
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_database(root: Path) -> None:
    (root / "catalog.db").write_bytes(b"not a database, " * 500)
    with pytest.raises(IntegrityError, match="damaged"):
        Catalog.open(root)


def test_a_database_of_somebody_else(root: Path) -> None:
    (root / "catalog.db").unlink()
    other = sqlite3.connect(root / "catalog.db")
    other.execute("CREATE TABLE photos (id INTEGER)")
    other.commit()
    other.close()
    with pytest.raises(SchemaError, match="photos"):
        Catalog.open(root)


def test_create_makes_a_bank_of_the_empty_file_that_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch()
    with Catalog.open(tmp_path, create=True) as catalog:
        assert catalog.settings()["schema_revision"] == "0001"


def test_create_makes_a_bank_of_a_database_without_tables(tmp_path: Path) -> None:
    """What the rollback of a killed first start may leave."""
    other = sqlite3.connect(tmp_path / "catalog.db")
    other.execute("PRAGMA user_version=1")
    other.close()
    with pytest.raises(NotFoundError, match="no bank"):
        Catalog.open(tmp_path)
    with Catalog.open(tmp_path, create=True) as catalog:
        assert catalog.settings()["schema_revision"] == "0001"


def test_create_and_readonly_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude"):
        Catalog.open(tmp_path, create=True, readonly=True)


@pytest.mark.parametrize("url", ["postgresql://host/db", "mysql+pymysql://host/db", "file:///tmp/x"])
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(PlatformError, match=url.partition(":")[0].partition("+")[0]):
        Catalog.open(url)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("bank", "bank"),
        ("sqlite:///bank", "bank"),
        ("sqlite:////var/bank", "/var/bank"),
        ("sqlite+pysqlite:////var/bank/catalog.db", "/var/bank"),
        (Path("/var/bank"), "/var/bank"),
    ],
)
def test_places_of_banks(place: str | Path, path: str) -> None:
    assert bank_path(place) == Path(path)


def test_a_url_without_a_path_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="sqlite:///PATH"):
        bank_path("sqlite://")


@pytest.mark.parametrize("create", [True, False])
def test_a_network_file_system_is_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: bool) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(NFS.format(point=root.resolve()))
    monkeypatch.setattr("adapterbank.catalog.filesystem._MOUNTINFO", mountinfo)
    before = make.snapshot(root)
    with pytest.raises(PlatformError, match="nfs4"):
        Catalog.open(root / "new" if create else root, create=create)
    assert make.snapshot(root) == before


def test_odd_characters_in_the_path(empty_bank: Path, tmp_path: Path) -> None:
    root = tmp_path / "a bank?mode=memory#%41 &ü"
    with Catalog.open(root, create=True) as catalog, catalog.writing() as tx:
        make.add(tx)
    assert (root / "catalog.db").stat().st_size > 0


def test_conflicts_are_also_value_errors(catalog: Catalog) -> None:
    with catalog.writing() as tx, pytest.raises(ValueError, match="differs only in case"):
        make.add(tx, "SQL")
        make.add(tx, "sql")
    assert issubclass(ConflictError, ValueError)


def test_neither_torch_nor_alembic_is_imported_to_use_a_bank(root: Path) -> None:
    code = (
        "import sys; from adapterbank.catalog import search, session\n"
        f"with session.Catalog.open({str(root)!r}) as catalog, catalog.reading() as tx: search.versions(tx)\n"
        "print([name for name in ('torch', 'alembic', 'peft', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
