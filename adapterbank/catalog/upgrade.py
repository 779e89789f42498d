"""The schema: made and changed by Alembic only, also for a new bank; an older catalog is never changed unasked.

``HEAD`` is a constant so that opening a bank does not import Alembic; a test holds it to the newest script.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select, text

import adapterbank
from adapterbank.catalog import connect, places
from adapterbank.catalog.clock import now
from adapterbank.catalog.faults import translated
from adapterbank.catalog.filesystem import refuse_network
from adapterbank.catalog.journal import current
from adapterbank.catalog.rows import SchemaChange
from adapterbank.disk_errors import storage_errors
from adapterbank.errors import IntegrityError, NotFoundError, SchemaError
from adapterbank.locks import hold

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
LOCK_SECONDS = 120.0


def revision(tx: Connection) -> str | None:
    """The schema revision of a database; None for one without tables. SchemaError for a database that is not ours."""
    tables = inspect(tx).get_table_names()
    if not tables:
        return None
    found = tx.scalar(select(text("version_num")).select_from(text("alembic_version"))) if "alembic_version" in tables else None
    if found is None:
        raise SchemaError(
            f"this SQLite file is not a catalog of adapterbank: it has tables such as {tables[0]!r} but no revision"
        )
    return str(found)


def check(found: str, root: Path) -> None:
    """Raise SchemaError unless ``found`` is the revision that this code writes; the hint has the command to run."""
    if found == HEAD:
        return
    if found > HEAD:  # revisions are ordinals of four digits
        raise SchemaError(
            f"the catalog at {root} has schema {found}, newer than {HEAD} which adapterbank {adapterbank.__version__} knows",
            hint="update adapterbank: pip install --upgrade adapterbank",
        )
    raise SchemaError(
        f"the catalog at {root} has schema {found}, older than {HEAD} which this code needs",
        hint=f"adapterbank --bank {root} upgrade",
    )


def create(root: Path) -> None:
    """Make the catalog of a new bank; of processes that come at once one makes it and the others find it made."""
    _make_folders(root)
    with hold(places.write_lock(root), exclusive=True, timeout=LOCK_SECONDS):
        if places.is_empty(root) or _revision(root) is None:
            _migrate(root)


def upgrade(root: Path | str) -> SchemaChange:
    """Bring an older catalog to this code's schema, after a backup into ``BANK/backups`` (the newest one is kept).

    One transaction: a migration that fails leaves the catalog as it was. Raises NotFoundError without a bank, SchemaError
    for a newer one.
    """
    root = places.bank_path(root)
    refuse_network(root)
    if places.is_empty(root):
        raise NotFoundError(f"no bank at {root}", hint=f"adapterbank --bank {root} init")
    _make_folders(root)
    with hold(places.write_lock(root), exclusive=True, timeout=LOCK_SECONDS), translated(places.database(root)):
        before = _revision(root)
        if before == HEAD:
            return SchemaChange(before, HEAD, None)
        if before is not None and before > HEAD:
            check(before, root)  # raises
        backup = _back_up(root, before)
        _migrate(root)
        _drop_older_backups(backup)
        return SchemaChange(before, HEAD, str(backup))


def scripts() -> Path:
    """The folder of Alembic scripts: inside the package in a wheel, beside it in a checkout or an editable install."""
    package = Path(adapterbank.__file__).parent
    for folder in (package / "_migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaError(f"the migrations of adapterbank are missing beside {package}", hint="install adapterbank again")


def configuration(connection: Connection) -> Config:
    """Alembic's configuration, in code: the scripts, and the one connection that they must use."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(root: Path) -> str | None:
    """The revision as seen by the holder of the write lock."""
    path = places.database(root)
    with translated(path), connect.writer(path, current()).begin() as tx:
        return revision(tx)


def _migrate(root: Path) -> None:
    """Run the migrations in one transaction, foreign keys off: enforced, the rebuild of a table deletes its children."""
    from alembic import command

    path = places.database(root)
    engine = connect.writer(path, current(), mode="rwc", foreign_keys=False)
    with translated(path), engine.begin() as tx:
        command.upgrade(configuration(tx), HEAD)
        broken = tx.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise IntegrityError(f"the upgrade would leave {len(broken)} rows without what they refer to; nothing was changed")


def _make_folders(root: Path) -> None:
    for folder in (root, places.write_lock(root).parent, places.backups(root)):
        with storage_errors("create", folder):
            folder.mkdir(parents=True, exist_ok=True)


def _back_up(root: Path, before: str | None) -> Path:
    """A copy of the catalog, on disk before anything is changed."""
    stamp = now().translate(str.maketrans("", "", "-:."))
    target = places.backups(root) / f"catalog-{before or 'none'}-{stamp}.db"
    source = connect.connect(places.database(root), "rw")
    try:
        source.execute("VACUUM INTO ?", (str(target),))
    finally:
        source.close()
    with storage_errors("flush", target):
        for path in (target, target.parent):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    return target


def _drop_older_backups(newest: Path) -> None:
    for path in newest.parent.glob("catalog-*.db"):
        if path != newest:
            path.unlink(missing_ok=True)
