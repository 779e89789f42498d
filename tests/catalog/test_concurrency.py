"""Many processes on one bank: nobody fails, nothing is lost, nothing is given twice."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import alembic.command  # noqa: F401  (children are forked from a parent that has it already)
import pytest

from adapterbank.catalog import aliases, connect, digests, journal, search, versions
from adapterbank.catalog.session import Catalog
from adapterbank.errors import StorageError
from adapterbank.locks import is_held_exclusively
from tests.catalog import make
from tests.catalog.processes import together

WRITERS, READERS, EACH = 8, 4, 6


def test_sixteen_processes_open_a_new_bank_at_once(tmp_path: Path) -> None:
    root = tmp_path / "bank"

    def open_and_write(number: int) -> None:
        with Catalog.open(root, create=True) as catalog, catalog.writing() as tx:
            make.add(tx, f"a{number}")

    assert together([lambda n=n: open_and_write(n) for n in range(16)]) == ["ok"] * 16
    with Catalog.open(root) as catalog, catalog.reading() as tx:
        assert len(search.versions(tx)) == 16


@contextmanager
def forced(mode: str) -> Iterator[None]:
    """Use this journal whatever the SQLite here: the write lock has to make both safe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapterbank.catalog.journal.choose", lambda version: journal.Journal(mode, "test"))
        yield


@pytest.mark.parametrize("mode", ["truncate", "wal"])
def test_writers_and_readers_together_lose_nothing(root: Path, mode: str) -> None:
    def write(number: int) -> None:
        with Catalog.open(root) as catalog:
            for k in range(EACH):
                with catalog.writing() as tx:
                    version = make.add(tx, "shared", (number, k), metrics={"k": k})
                    aliases.set_alias(tx, "shared", "latest", version.number)

    def read() -> None:
        for _ in range(3 * EACH):  # opened anew each time, because opening and closing have locks of their own
            with Catalog.open(root, readonly=True) as catalog, catalog.reading() as tx:
                seen = [version.number for version in search.versions(tx, where="rank=4")]
                assert seen == list(range(1, len(seen) + 1))
                assert not seen or versions.get(tx, "shared@latest").number == len(seen)

    with forced(mode):
        actions = [lambda n=n: write(n) for n in range(WRITERS)] + [read] * READERS
        assert together(actions) == ["ok"] * len(actions)
        with Catalog.open(root) as catalog, catalog.reading() as tx:
            assert [v.number for v in versions.of_name(tx, "shared")] == list(range(1, WRITERS * EACH + 1))
            assert connect.journal_mode(tx.connection.driver_connection) == {"truncate": "delete", "wal": "wal"}[mode]
            assert list(digests.verify_rows(tx)) == []


def test_the_write_lock_is_held_until_the_connection_is_closed(catalog: Catalog) -> None:
    """Closing the last connection of a WAL database is a checkpoint: it belongs under the lock as well."""
    lock, seen = catalog.root / "locks" / "catalog.lock", []
    close = sqlite3.Connection.close

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            seen.append(is_held_exclusively(lock))
            close(self)

    connect_ = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **options: connect_(*args, factory=Watched, **options))
        with catalog.writing() as tx:
            make.add(tx)
            assert is_held_exclusively(lock)
    assert seen == [True]
    assert not is_held_exclusively(lock)


def test_of_processes_that_swap_an_alias_at_once_one_wins(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        for k in range(WRITERS + 1):
            make.add(tx, "sql", k)
        aliases.set_alias(tx, "sql", "prod", 1)
    with catalog.reading() as tx:
        parents = tx.connection.driver_connection

    def swap(number: int) -> None:
        with catalog.reading() as tx:  # SQLite forbids to carry a connection over a fork
            assert tx.connection.driver_connection is not parents
            assert len(versions.of_name(tx, "sql")) == WRITERS + 1
        with catalog.writing() as tx:
            aliases.set_alias(tx, "sql", "prod", number, expect=1)
        catalog.close()

    outcomes = together([lambda n=n: swap(n) for n in range(2, WRITERS + 2)])
    assert outcomes.count("ok") == 1
    assert all(text.startswith("ConflictError: sql@prod means version") for text in outcomes if text != "ok")
    with catalog.reading() as tx:
        assert versions.get(tx, "sql@prod").number == outcomes.index("ok") + 2
        assert [(event.old, event.new) for event in aliases.history(tx, "sql")] == [(None, 1), (1, outcomes.index("ok") + 2)]


@pytest.mark.parametrize("mode", ["truncate", "wal"])
def test_a_killed_writer_leaves_a_readable_bank(root: Path, mode: str) -> None:
    """What a kill left behind is undone by the next reader; an unfinished transaction never shows."""

    def die() -> None:
        with Catalog.open(root) as catalog, catalog.writing() as tx:
            tx.exec_driver_sql("PRAGMA cache_size=1")  # pages go to the disk before the commit
            for k in range(30):
                make.add(tx, "half", k, tags={f"t{i}": "x" * 400 for i in range(20)})
            os.kill(os.getpid(), signal.SIGKILL)

    with forced(mode):
        with Catalog.open(root) as catalog, catalog.writing() as tx:
            make.add(tx, "whole")
        assert together([die]) == [""]
        assert (root / {"truncate": "catalog.db-journal", "wal": "catalog.db-wal"}[mode]).stat().st_size > 0
        if mode == "truncate":
            with pytest.raises(StorageError, match="cut short"):
                Catalog.open(root, readonly=True)
        for readonly in (mode == "wal", False, True):
            with Catalog.open(root, readonly=readonly) as catalog, catalog.reading() as tx:
                assert [v.ref for v in search.versions(tx)] == ["whole@1"]
                assert list(digests.verify_rows(tx)) == []


def test_a_bank_that_changes_its_journal_stays_readable(root: Path) -> None:
    """Processes with different SQLites may meet at one bank, each with the journal that is right for it."""
    for k, mode in enumerate(["wal", "truncate", "wal", "truncate"]):
        with forced(mode), Catalog.open(root) as catalog:
            with catalog.writing() as tx:
                make.add(tx, "sql", k)
            with catalog.reading() as tx:
                assert len(versions.of_name(tx, "sql")) == k + 1
