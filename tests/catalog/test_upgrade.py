"""The schema: one truth, made by the migrations; older and newer catalogs, failed and repeated upgrades."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from adapterbank.catalog import digests, search, upgrade
from adapterbank.catalog.session import Catalog
from adapterbank.catalog.tables import metadata
from adapterbank.errors import AdapterBankError, NotFoundError, SchemaError
from tests.catalog import make

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None


def upgrade() -> None:
    with op.batch_alter_table("versions", recreate="always") as table:
        table.add_column(sa.Column("colour", sa.Text()))
    {last}
"""


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations with a second revision, which rebuilds the parent table of tags, metrics, aliases and members."""
    scripts = tmp_path / "scripts"
    shutil.copytree(upgrade.scripts(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0002_next.py").write_text(NEXT.format(last="pass"))
    monkeypatch.setattr(upgrade, "scripts", lambda: scripts)
    monkeypatch.setattr(upgrade, "HEAD", "0002")
    return scripts


def schema(path: Path) -> dict[str, list[str]]:
    """What each table and index says, line by line: the order of constraints does not matter."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    lines = {name: sorted(line.strip(" \t,") for line in sql.splitlines()) for name, sql in rows}
    return {name: text for name, text in lines.items() if not name.startswith(("sqlite_", "alembic_"))}


def test_head_is_the_one_newest_script() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(upgrade.configuration(connection))
    assert scripts.get_heads() == [upgrade.HEAD]
    assert [script.revision for script in scripts.walk_revisions()] == sorted(
        (s.revision for s in scripts.walk_revisions()), reverse=True
    )


def test_tables_and_migrations_say_the_same(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []
    # Alembic compares no CHECKs and no AUTOINCREMENT: the text of the two schemas has them.
    direct = tmp_path / "direct.db"
    engine = create_engine(f"sqlite:///{direct}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(direct) == schema(catalog.root / "catalog.db")


def test_the_tables_can_be_made_on_postgresql() -> None:
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=postgresql.dialect())).strip().startswith("CREATE TABLE")
        names = [item.name for item in (*table.constraints, *table.indexes)]
        assert all(name and len(str(name)) <= 63 for name in names), "PostgreSQL cuts longer names"


def test_an_older_catalog_is_refused_with_the_command(root: Path, next_release: Path) -> None:
    for readonly in (False, True):
        with pytest.raises(SchemaError, match="older than 0002") as caught:
            Catalog.open(root, readonly=readonly)
        assert str(caught.value.hint).endswith("upgrade")
    with pytest.raises(SchemaError, match="older"):
        Catalog.open(root, create=True)


def test_a_newer_catalog_is_refused_and_left_alone(root: Path) -> None:
    other = sqlite3.connect(root / "catalog.db")
    other.execute("UPDATE alembic_version SET version_num = '0042'")
    other.commit()
    other.close()
    before = (root / "catalog.db").read_bytes()
    for action in (Catalog.open, upgrade.upgrade):
        with pytest.raises(SchemaError, match="schema 0042, newer than 0001") as caught:
            action(root)
        assert "pip install --upgrade" in str(caught.value.hint)
    assert (root / "catalog.db").read_bytes() == before
    assert list((root / "backups").iterdir()) == []


def test_an_upgrade_keeps_all_rows_and_one_backup(root: Path, request: pytest.FixtureRequest) -> None:
    with Catalog.open(root) as catalog:
        make.fill(catalog)
        with catalog.reading() as tx:
            before, count = search.versions(tx), digests.count_rows(tx)
    (root / "backups" / "catalog-0000-older.db").write_bytes(b"an older backup")
    request.getfixturevalue("next_release")
    change = upgrade.upgrade(root)
    assert (change.before, change.after) == ("0001", "0002")
    assert [str(path) for path in (root / "backups").iterdir()] == [change.backup]
    with Catalog.open(root) as catalog, catalog.reading() as tx:
        assert search.versions(tx) == before
        assert digests.count_rows(tx) == count
        assert list(digests.verify_rows(tx)) == []
        assert "colour" in [row[1] for row in tx.exec_driver_sql("PRAGMA table_info(versions)")]
    again = upgrade.upgrade(root)
    assert (again.before, again.after, again.backup) == ("0002", "0002", None)


def test_the_backup_is_the_catalog_as_it_was(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with Catalog.open(root) as catalog:
        make.fill(catalog)
    old = schema(root / "catalog.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "HEAD", "0001")
        assert upgrade.upgrade(root).backup is None
    request.getfixturevalue("next_release")
    backup = upgrade.upgrade(root).backup
    assert backup is not None
    assert schema(Path(backup)) == old
    assert schema(root / "catalog.db") != old


@pytest.mark.parametrize(
    "last", ["raise RuntimeError('half way')", "op.execute('SELECT * FROM none')", "op.execute('DELETE FROM names')"]
)
def test_a_failed_migration_leaves_nothing_behind(root: Path, next_release: Path, last: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "HEAD", "0001")
        with Catalog.open(root) as catalog:
            make.fill(catalog)
    before = schema(root / "catalog.db")
    (next_release / "versions" / "0002_next.py").write_text(NEXT.format(last=last))
    with pytest.raises((RuntimeError, AdapterBankError)):
        upgrade.upgrade(root)
    assert schema(root / "catalog.db") == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "HEAD", "0001")
        with Catalog.open(root) as catalog, catalog.reading() as tx:
            assert list(digests.verify_rows(tx)) == []
    (next_release / "versions" / "0002_next.py").write_text(NEXT.format(last="pass"))
    assert upgrade.upgrade(root).after == "0002"


def test_a_failed_first_start_leaves_a_place_for_the_next(tmp_path: Path, next_release: Path) -> None:
    (next_release / "versions" / "0002_next.py").write_text(NEXT.format(last="raise RuntimeError('half way')"))
    with pytest.raises(RuntimeError):
        Catalog.open(tmp_path / "bank", create=True)
    with pytest.raises(NotFoundError):
        Catalog.open(tmp_path / "bank")
    (next_release / "versions" / "0002_next.py").write_text(NEXT.format(last="pass"))
    with Catalog.open(tmp_path / "bank", create=True) as catalog:
        assert catalog.settings()["schema_revision"] == "0002"


def test_nothing_to_upgrade(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no bank"):
        upgrade.upgrade(tmp_path)


def test_scripts_are_found_in_a_wheel_and_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "adapterbank"
    package.mkdir(parents=True)
    monkeypatch.setattr("adapterbank.__file__", str(package / "__init__.py"))
    with pytest.raises(SchemaError, match="missing"):
        upgrade.scripts()
    for folder in (tmp_path / "site" / "migrations", package / "_migrations"):
        folder.mkdir()
        (folder / "env.py").touch()
        assert upgrade.scripts() == folder
