"""The first schema: names, versions, aliases, labels, bases, members, recipes, artefacts, objects and the edges between them.

Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _base_models()
    _layouts()
    _names()
    _nodes()
    _released()
    _alias_events()
    _artefacts()
    _base_model_aliases()
    _bases()
    _edges()
    _objects()
    _versions()
    _aliases()
    _members()
    _metrics()
    _recipes()
    _tags()


def _base_models() -> None:
    op.create_table(
        "base_models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("quantization", sa.Text(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
        sa.UniqueConstraint("name", name=op.f("uq_base_models_name")),
        sqlite_autoincrement=True,
    )


def _layouts() -> None:
    op.create_table(
        "layouts",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_layouts_digest_length")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_layouts")),
    )


def _names() -> None:
    op.create_table(
        "names",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("folded", sa.String(length=128), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("kind IN ('adapter', 'basis')", name=op.f("ck_names_kind")),
        sa.CheckConstraint("last_number >= 0", name=op.f("ck_names_last_number")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_names")),
        sa.UniqueConstraint("kind", "folded", name=op.f("uq_names_kind_folded")),
        sa.UniqueConstraint("kind", "name", name=op.f("uq_names_kind_name")),
        sqlite_autoincrement=True,
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
        sqlite_autoincrement=True,
    )


def _released() -> None:
    op.create_table(
        "released",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_released_digest_length")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_released")),
    )


def _alias_events() -> None:
    op.create_table(
        "alias_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name_id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=128), nullable=False),
        sa.Column("old", sa.Integer(), nullable=True),
        sa.Column("new", sa.Integer(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["name_id"], ["names.id"], name=op.f("fk_alias_events_name_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_alias_events_name_id"), "alias_events", ["name_id"], unique=False)


def _base_model_aliases() -> None:
    op.create_table(
        "base_model_aliases",
        sa.Column("alias", sa.String(length=512), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_base_model_aliases_base_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_base_model_aliases")),
    )
    op.create_index(op.f("ix_base_model_aliases_base_model_id"), "base_model_aliases", ["base_model_id"], unique=False)


def _artefacts() -> None:
    op.create_table(
        "artefacts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("family", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("adapters", sa.Text(), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("family IN ('statistics', 'coefficients')", name=op.f("ck_artefacts_family")),
        sa.ForeignKeyConstraint(["id"], ["nodes.id"], name=op.f("fk_artefacts_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artefacts")),
        sa.UniqueConstraint("object", name=op.f("uq_artefacts_object")),
    )
    op.create_index(op.f("ix_artefacts_kind_adapters"), "artefacts", ["kind", "adapters"], unique=False)


def _bases() -> None:
    op.create_table(
        "bases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("layout", sa.String(length=64), nullable=False),
        sa.Column("codec", sa.String(length=32), nullable=False),
        sa.Column("gauge", sa.String(length=32), nullable=False),
        sa.Column("components", sa.Integer(), nullable=True),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=True),
        sa.Column("error_mean", sa.Float(), nullable=False),
        sa.Column("error_worst", sa.Float(), nullable=False),
        sa.Column("error_kind", sa.String(length=32), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("error_kind IN ('measured', 'bound')", name=op.f("ck_bases_error_kind")),
        sa.CheckConstraint("components >= 0", name=op.f("ck_bases_components")),
        sa.CheckConstraint("error_mean >= 0 AND error_worst >= 0", name=op.f("ck_bases_error")),
        sa.CheckConstraint("(object IS NULL) <> (settings IS NULL)", name=op.f("ck_bases_object_or_settings")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_bases_number")),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_bases_base_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["id"], ["nodes.id"], name=op.f("fk_bases_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["layout"], ["layouts.digest"], name=op.f("fk_bases_layout"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["name_id"], ["names.id"], name=op.f("fk_bases_name_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bases")),
        sa.UniqueConstraint("name_id", "number", name=op.f("uq_bases_name_id_number")),
    )
    op.create_index(op.f("ix_bases_base_model_id"), "bases", ["base_model_id"], unique=False)
    op.create_index(op.f("ix_bases_layout"), "bases", ["layout"], unique=False)


def _edges() -> None:
    op.create_table(
        "edges",
        sa.Column("dependent", sa.Integer(), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("dependent <> needed", name=op.f("ck_edges_no_loop")),
        sa.ForeignKeyConstraint(["dependent"], ["nodes.id"], name=op.f("fk_edges_dependent"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["needed"], ["nodes.id"], name=op.f("fk_edges_needed"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("dependent", "needed", "kind", name=op.f("pk_edges")),
    )
    op.create_index(op.f("ix_edges_needed"), "edges", ["needed"], unique=False)


def _objects() -> None:
    op.create_table(
        "objects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_objects_bytes")),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_objects_digest_length")),
        sa.ForeignKeyConstraint(["id"], ["nodes.id"], name=op.f("fk_objects_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_objects")),
        sa.UniqueConstraint("digest", name=op.f("uq_objects_digest")),
    )


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("files", sa.String(length=64), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("config", sa.String(length=64), nullable=False),
        sa.Column("weights", sa.String(length=64), nullable=False),
        sa.Column("layout", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("level", sa.String(length=32), nullable=False),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("alpha", sa.Float(), nullable=False),
        sa.Column("rslora", sa.Boolean(), nullable=False),
        sa.Column("target_modules", sa.Text(), nullable=False),
        sa.Column("carried", sa.Text(), nullable=False),
        sa.Column("obstacle", sa.Text(), nullable=True),
        sa.Column("naming", sa.String(length=32), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("parent", sa.String(length=160), nullable=True),
        sa.Column("method", sa.String(length=64), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("level IN ('original', 'exact', 'bounded')", name=op.f("ck_versions_level")),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_versions_bytes")),
        sa.CheckConstraint("length(content) = 64", name=op.f("ck_versions_content_length")),
        sa.CheckConstraint("length(files) = 64", name=op.f("ck_versions_files_length")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_versions_number")),
        sa.CheckConstraint("rank >= 0", name=op.f("ck_versions_rank")),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_versions_base_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["id"], ["nodes.id"], name=op.f("fk_versions_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["layout"], ["layouts.digest"], name=op.f("fk_versions_layout"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["name_id"], ["names.id"], name=op.f("fk_versions_name_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("name_id", "files", name=op.f("uq_versions_name_id_files")),
        sa.UniqueConstraint("name_id", "number", name=op.f("uq_versions_name_id_number")),
    )
    op.create_index(op.f("ix_versions_base_model_id"), "versions", ["base_model_id"], unique=False)
    op.create_index(op.f("ix_versions_content"), "versions", ["content"], unique=False)
    op.create_index(op.f("ix_versions_created"), "versions", ["created"], unique=False)
    op.create_index(op.f("ix_versions_files"), "versions", ["files"], unique=False)
    op.create_index(op.f("ix_versions_layout"), "versions", ["layout"], unique=False)


def _aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("name_id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=128), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["name_id"], ["names.id"], name=op.f("fk_aliases_name_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_aliases_version_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("name_id", "alias", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_version_id"), "aliases", ["version_id"], unique=False)


def _members() -> None:
    op.create_table(
        "members",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("basis_id", sa.Integer(), nullable=True),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("codec", sa.String(length=32), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("reference_objects", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Float(), nullable=False),
        sa.Column("error_kind", sa.String(length=32), nullable=False),
        sa.Column("absent", sa.Text(), nullable=False),
        sa.Column("module_errors", sa.LargeBinary(), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("codec <> 'rmm' OR basis_id IS NOT NULL", name=op.f("ck_members_rmm_basis")),
        sa.CheckConstraint("codec IN ('rmm', 'rd', 'fixed')", name=op.f("ck_members_codec")),
        sa.CheckConstraint("error_kind IN ('measured', 'bound')", name=op.f("ck_members_error_kind")),
        sa.CheckConstraint("error >= 0", name=op.f("ck_members_error")),
        sa.ForeignKeyConstraint(["basis_id"], ["bases.id"], name=op.f("fk_members_basis_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["id"], ["nodes.id"], name=op.f("fk_members_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_members_version_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("basis_id", "version_id", name=op.f("uq_members_basis_id_version_id")),
    )
    op.create_index(op.f("ix_members_version_id"), "members", ["version_id"], unique=False)
    op.create_index(
        "uq_members_alone",
        "members",
        ["version_id", "codec"],
        unique=True,
        sqlite_where=sa.text("basis_id IS NULL"),
        postgresql_where=sa.text("basis_id IS NULL"),
    )


def _metrics() -> None:
    op.create_table(
        "metrics",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_metrics_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("version_id", "key", name=op.f("pk_metrics")),
    )
    op.create_index(op.f("ix_metrics_key_value"), "metrics", ["key", "value"], unique=False)


def _recipes() -> None:
    op.create_table(
        "recipes",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("residual", sa.Float(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("residual >= 0", name=op.f("ck_recipes_residual")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_recipes_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_recipes")),
    )


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_tags_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("version_id", "key", name=op.f("pk_tags")),
    )
    op.create_index(op.f("ix_tags_key_value"), "tags", ["key", "value"], unique=False)
