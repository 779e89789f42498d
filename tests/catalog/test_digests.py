"""Row digests: whatever is changed behind our back is found by ``verify_rows``, and by a reading for serving."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection

from adapterbank.catalog import base_models, bases, digests, levels, members, recipes, tables, versions
from adapterbank.catalog.session import Catalog
from adapterbank.errors import IntegrityError, Problem
from tests.catalog import make

FIELDS = [tables.metadata.tables[table].c[field] for table, fields in digests.PROTECTED.items() for field in fields]
CHANGES = [(column, "value") for column in FIELDS] + [
    (column, "type")
    for column in FIELDS
    if not (column.type.python_type is int and list(column.table.primary_key) == [column])  # SQLite's rowid takes no other type
]


@pytest.fixture(scope="module")
def filled(empty_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database file of a bank with a row in every protected table."""
    root = tmp_path_factory.mktemp("filled")
    (root / "locks").mkdir()
    (root / "catalog.db").write_bytes((empty_bank / "catalog.db").read_bytes())
    with Catalog.open(root) as catalog:
        make.fill(catalog)
    return (root / "catalog.db").read_bytes()


def damage(root: Path, *statements: str) -> int:
    """Run statements as somebody who knows nothing of us: no foreign keys, no CHECKs. Returns the rows changed."""
    other = sqlite3.connect(root / "catalog.db")
    other.execute("PRAGMA foreign_keys=OFF")
    other.execute("PRAGMA ignore_check_constraints=ON")
    changed = sum(other.execute(statement).rowcount for statement in statements)
    other.commit()
    other.close()
    return changed


def found(root: Path) -> list[Problem]:
    with Catalog.open(root, readonly=True) as catalog, catalog.reading() as tx:
        return list(digests.verify_rows(tx))


def test_the_protected_fields_exist_and_a_full_bank_is_clean(root: Path, filled: bytes) -> None:
    (root / "catalog.db").write_bytes(filled)
    assert found(root) == []
    with Catalog.open(root) as catalog, catalog.reading() as tx:
        counts = {name: tx.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() for name in digests.PROTECTED}
        assert digests.count_rows(tx) == sum(counts.values())
    assert min(counts.values()) > 0, "a protected table without a row would make the next tests empty"


def test_every_field_of_a_protected_table_is_covered_or_known_to_be_free() -> None:
    free = {("versions", "note")}
    for table in digests.PROTECTED:
        columns = {(table, column.name) for column in tables.metadata.tables[table].columns}
        assert columns - free - {(table, "row_digest")} == {(table, field) for field in digests.PROTECTED[table]}


@pytest.mark.parametrize(("column", "change"), CHANGES, ids=[f"{column}-{change}" for column, change in CHANGES])
def test_any_change_of_a_protected_field_is_found(root: Path, filled: bytes, column: Column[Any], change: str) -> None:
    (root / "catalog.db").write_bytes(filled)
    table, field = column.table.name, column.name
    texts = {str: f"coalesce({field}, '') || 'x'", bytes: f"{field} || x'00'", bool: f"NOT {field}"}
    new = texts.get(column.type.python_type, f"coalesce({field}, 0) + 1") if change == "value" else "x'ff00'"
    assert damage(root, f"UPDATE {table} SET {field} = {new} WHERE rowid = (SELECT max(rowid) FROM {table})") == 1
    assert any(problem.code in ("row_digest", "unreadable_row") and table in str(problem.where) for problem in found(root))


def test_rows_that_swap_their_digests_are_found(root: Path, filled: bytes) -> None:
    (root / "catalog.db").write_bytes(filled)
    damage(root, "UPDATE versions SET number = 9 WHERE number = 1", "UPDATE versions SET number = 1 WHERE number = 2")
    assert {problem.code for problem in found(root)} >= {"row_digest"}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM edges WHERE kind = 'weights'", "edge"),
        ("DELETE FROM edges WHERE kind = 'config'", "edge"),
        ("DELETE FROM edges WHERE kind = 'basis'", "edge"),
        ("DELETE FROM edges WHERE kind = 'form'", "edge"),
        ("DELETE FROM edges WHERE kind = 'member'", "edge"),
        ("DELETE FROM edges WHERE kind = 'bounded'", "edge"),
        ("UPDATE layouts SET body = replace(body, '8', '9')", "layout_digest"),
        ("DELETE FROM members", "node_kind"),
        ("UPDATE names SET last_number = 1 WHERE name = 'sql'", "last_number"),
        ("DELETE FROM names WHERE name = 'mix'", "foreign_key"),
    ],
)
def test_contradictions_between_rows_are_found(root: Path, filled: bytes, statement: str, code: str) -> None:
    (root / "catalog.db").write_bytes(filled)
    assert damage(root, statement) > 0
    assert code in {problem.code for problem in found(root)}


def test_text_that_is_no_text_any_more_is_found_and_named(root: Path, filled: bytes) -> None:
    (root / "catalog.db").write_bytes(filled.replace(b"ties", b"t\xffes"))
    assert any(problem.code == "row_digest" and "recipes" in str(problem.where) for problem in found(root))


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE versions SET alpha = 16", lambda tx: versions.get(tx, "sql@1")),
        ("UPDATE versions SET weights = config", lambda tx: versions.find_by_files(tx, make.digest("sql", 1, "files"))),
        ("UPDATE names SET folded = folded || 'x'", lambda tx: versions.get(tx, "sql")),
        ("UPDATE base_models SET name = 'other'", lambda tx: versions.get(tx, "sql")),
        ("UPDATE layouts SET body = '[]'", lambda tx: versions.get(tx, "sql")),
        ("UPDATE aliases SET version_id = (SELECT min(id) FROM versions)", lambda tx: versions.get(tx, "sql@prod")),
        ("UPDATE base_models SET quantization = NULL", lambda tx: base_models.resolve(tx, "org/model")),
        ("UPDATE base_model_aliases SET alias = 'served2'", lambda tx: base_models.resolve(tx, "served2")),
        ("UPDATE bases SET components = 1", lambda tx: bases.get(tx, "b1")),
        ("UPDATE members SET error = 0", lambda tx: members.of_version(tx, versions.get(tx, "sql@2"))),
        ("UPDATE members SET object = ''", lambda tx: levels.bounded_member(tx, versions.get(tx, "sql@2"))),
        ("UPDATE recipes SET body = '{}'", lambda tx: recipes.get(tx, versions.get(tx, "mix"))),
    ],
)
def test_a_damaged_row_is_not_served(root: Path, filled: bytes, statement: str, read: Callable[[Connection], object]) -> None:
    (root / "catalog.db").write_bytes(filled)
    damage(root, statement)
    with Catalog.open(root) as catalog, catalog.reading() as tx, pytest.raises(IntegrityError, match="digest"):
        read(tx)


def test_a_damaged_row_gets_no_good_seal_by_an_update(root: Path, filled: bytes) -> None:
    (root / "catalog.db").write_bytes(filled)
    damage(root, "UPDATE names SET folded = 'mix2' WHERE name = 'mix'")
    with Catalog.open(root) as catalog, catalog.writing() as tx, pytest.raises(IntegrityError, match="names"):
        digests.update(tx, tables.names, {"name": "mix"}, {"last_number": 7})


def test_flipped_bits_in_the_file_never_change_what_is_served(root: Path, filled: bytes) -> None:
    """Each flip of one bit is refused, found by ``verify_rows``, or changes nothing that a reader gets."""

    def served(catalog: Catalog) -> object:
        with catalog.reading() as tx:
            return (
                versions.get(tx, "sql@1"),
                versions.get(tx, "mix"),
                bases.get(tx, "b1"),
                recipes.get(tx, versions.get(tx, "mix")),
            )

    (root / "catalog.db").write_bytes(filled)
    with Catalog.open(root) as catalog:
        truth = served(catalog)
    rng = random.Random(0)
    for _ in range(150):
        at = rng.randrange(len(filled))
        (root / "catalog.db").write_bytes(filled[:at] + bytes([filled[at] ^ 1 << rng.randrange(8)]) + filled[at + 1 :])
        try:
            with Catalog.open(root, readonly=True) as catalog:
                now = served(catalog)
        except Exception as error:
            assert type(error).__module__ == "adapterbank.errors", f"byte {at}: {error!r}"
            continue
        assert now == truth or found(root), f"byte {at}"
