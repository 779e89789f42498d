"""The tables. Types and constraints are portable (SQLite now, PostgreSQL by URL later); the schema is made by Alembic only.

Every version, basis, member, artefact and object is a row of ``nodes``, whose ids are never given twice; its own table uses
that id as primary key, and ``edges`` joins nodes: the one place that says what needs what. Times and JSON are text, so that a
row's digest is the same on every database; ``row_digest`` covers the fields that ``digests.PROTECTED`` lists.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_NAME, _DIGEST, _WORD, _TIME, _MODEL = String(128), String(64), String(32), String(32), String(512)


def _digest(name: str, **options: Any) -> Column[str]:
    return Column(name, _DIGEST, nullable=False, **options)


def _seal() -> Column[str]:
    return _digest("row_digest")


def _hex(name: str) -> CheckConstraint:
    return CheckConstraint(f"length({name}) = 64", name=f"{name}_length")


nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", _WORD, nullable=False),
    sqlite_autoincrement=True,  # an id is never given to a second node, also after the newest was removed
)

edges = Table(
    "edges",
    metadata,
    Column("dependent", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("needed", ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True, index=True),
    Column("kind", _WORD, primary_key=True),
    _seal(),
    CheckConstraint("dependent <> needed", name="no_loop"),
)

objects = Table(
    "objects",
    metadata,
    Column("id", ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True),
    _digest("digest", unique=True),
    Column("bytes", BigInteger, nullable=False),
    _seal(),
    _hex("digest"),
    CheckConstraint("bytes >= 0", name="bytes"),
)

released = Table(
    "released",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    _hex("digest"),
)

# Names of adapters and of bases, with the last number given: the row stays when all versions are gone.
names = Table(
    "names",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", _WORD, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("folded", _NAME, nullable=False),
    Column("last_number", Integer, nullable=False),
    _seal(),
    UniqueConstraint("kind", "name"),
    UniqueConstraint("kind", "folded"),
    CheckConstraint("kind IN ('adapter', 'basis')", name="kind"),
    CheckConstraint("last_number >= 0", name="last_number"),
    sqlite_autoincrement=True,
)

base_models = Table(
    "base_models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _MODEL, nullable=False, unique=True),
    Column("fingerprint", Text),
    Column("quantization", Text),
    Column("created", _TIME, nullable=False),
    _seal(),
    sqlite_autoincrement=True,
)

base_model_aliases = Table(
    "base_model_aliases",
    metadata,
    Column("alias", _MODEL, primary_key=True),
    Column("base_model_id", ForeignKey("base_models.id", ondelete="CASCADE"), nullable=False, index=True),
    _seal(),
)

# Module shapes as canonical JSON: thousands of adapters of one kind share one row.
layouts = Table(
    "layouts",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("body", Text, nullable=False),
    _hex("digest"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True),
    Column("name_id", ForeignKey("names.id", ondelete="RESTRICT"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("base_model_id", ForeignKey("base_models.id", ondelete="RESTRICT"), nullable=False, index=True),
    _digest("files", index=True),
    _digest("content", index=True),
    _digest("config"),
    _digest("weights"),
    Column("layout", ForeignKey("layouts.digest", ondelete="RESTRICT"), nullable=False, index=True),
    Column("kind", _WORD, nullable=False),
    Column("level", _WORD, nullable=False),
    Column("dtype", _WORD, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("alpha", Float, nullable=False),
    Column("rslora", Boolean, nullable=False),
    Column("target_modules", Text, nullable=False),
    Column("carried", Text, nullable=False),
    Column("obstacle", Text),
    Column("naming", _WORD, nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("parent", String(160)),
    Column("method", String(64)),
    Column("note", Text),
    Column("created", _TIME, nullable=False, index=True),
    _seal(),
    UniqueConstraint("name_id", "number"),
    UniqueConstraint("name_id", "files"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("rank >= 0", name="rank"),
    CheckConstraint("bytes >= 0", name="bytes"),
    CheckConstraint("level IN ('original', 'exact', 'bounded')", name="level"),
    _hex("files"),
    _hex("content"),
)

tags = Table(
    "tags",
    metadata,
    Column("version_id", ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "key", "value"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("version_id", ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("value", Float, nullable=False),
    Index(None, "key", "value"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name_id", ForeignKey("names.id", ondelete="RESTRICT"), primary_key=True),
    Column("alias", _NAME, primary_key=True),
    Column("version_id", ForeignKey("versions.id", ondelete="RESTRICT"), nullable=False, index=True),
    _seal(),
)

alias_events = Table(
    "alias_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name_id", ForeignKey("names.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("alias", _NAME, nullable=False),
    Column("old", Integer),
    Column("new", Integer),
    Column("created", _TIME, nullable=False),
    _seal(),
    sqlite_autoincrement=True,
)

recipes = Table(
    "recipes",
    metadata,
    Column("version_id", ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True),
    Column("method", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("residual", Float, nullable=False),
    Column("environment", Text, nullable=False),
    _seal(),
    CheckConstraint("residual >= 0", name="residual"),
)

# What calibration made: an object, and in ``adapters`` the contents that it was made for, sorted, as JSON.
artefacts = Table(
    "artefacts",
    metadata,
    Column("id", ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True),
    Column("family", _WORD, nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("adapters", Text, nullable=False),
    _digest("object", unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created", _TIME, nullable=False),
    _seal(),
    Index(None, "kind", "adapters"),
    CheckConstraint("family IN ('statistics', 'coefficients')", name="family"),
)

_ERROR_KIND = "error_kind IN ('measured', 'bound')"

bases = Table(
    "bases",
    metadata,
    Column("id", ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True),
    Column("name_id", ForeignKey("names.id", ondelete="RESTRICT"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("base_model_id", ForeignKey("base_models.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("layout", ForeignKey("layouts.digest", ondelete="RESTRICT"), nullable=False, index=True),
    Column("codec", _WORD, nullable=False),
    Column("gauge", _WORD, nullable=False),
    Column("components", Integer),  # of the codec rmm
    Column("dtype", _WORD, nullable=False),
    Column("object", _DIGEST),  # of the codec rmm: what its members share
    Column("bytes", BigInteger, nullable=False),
    Column("settings", Text),  # of the codec rd: how each member is coded, as JSON
    Column("error_mean", Float, nullable=False),
    Column("error_worst", Float, nullable=False),
    Column("error_kind", _WORD, nullable=False),
    Column("created", _TIME, nullable=False),
    _seal(),
    UniqueConstraint("name_id", "number"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("components >= 0", name="components"),
    CheckConstraint("error_mean >= 0 AND error_worst >= 0", name="error"),
    CheckConstraint("(object IS NULL) <> (settings IS NULL)", name="object_or_settings"),
    CheckConstraint(_ERROR_KIND, name="error_kind"),
)

_ALONE = text("basis_id IS NULL")

# Stored forms of versions: members of a basis, and with no basis_id those coded on their own, one per version and codec.
# "reference_objects" lists the digests that a form was coded against, as JSON.
members = Table(
    "members",
    metadata,
    Column("id", ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True),
    Column("basis_id", ForeignKey("bases.id", ondelete="RESTRICT")),
    Column("version_id", ForeignKey("versions.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("codec", _WORD, nullable=False),
    _digest("object"),
    Column("reference_objects", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("error", Float, nullable=False),
    Column("error_kind", _WORD, nullable=False),
    Column("absent", Text, nullable=False),
    Column("module_errors", LargeBinary, nullable=False),  # float32, little-endian, in the order of the version's layout
    _seal(),
    UniqueConstraint("basis_id", "version_id"),
    Index("uq_members_alone", "version_id", "codec", unique=True, sqlite_where=_ALONE, postgresql_where=_ALONE),
    CheckConstraint("codec IN ('rmm', 'rd', 'fixed')", name="codec"),
    CheckConstraint("codec <> 'rmm' OR basis_id IS NOT NULL", name="rmm_basis"),
    CheckConstraint("error >= 0", name="error"),
    CheckConstraint(_ERROR_KIND, name="error_kind"),
)
