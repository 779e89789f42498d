"""From joined rows to versions: the one place that knows which columns make a ``Version``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    BindParameter,
    ColumnElement,
    Connection,
    Float,
    Join,
    RowMapping,
    Text,
    bindparam,
    cast,
    literal_column,
    null,
    select,
    union_all,
)

from adapterbank.catalog import layouts
from adapterbank.catalog.rows import Version
from adapterbank.catalog.tables import aliases, base_models, metrics, names, tags, versions
from adapterbank.lora.layout import Layout

_CHUNK = 1000

JOINED: Join = versions.join(names, names.c.id == versions.c.name_id).join(
    base_models, base_models.c.id == versions.c.base_model_id
)
ROWS = select(versions, names, base_models).select_from(JOINED).set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)

_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_NO_TEXT: ColumnElement[str] = cast(null(), Text)
_NO_NUMBER: ColumnElement[float] = cast(null(), Float)
_LABELS = union_all(
    select(tags.c.version_id, literal_column("1"), tags.c.key, tags.c.value, _NO_NUMBER).where(tags.c.version_id.in_(_IDS)),
    select(metrics.c.version_id, literal_column("2"), metrics.c.key, _NO_TEXT, metrics.c.value).where(
        metrics.c.version_id.in_(_IDS)
    ),
    select(aliases.c.version_id, literal_column("3"), aliases.c.alias, _NO_TEXT, _NO_NUMBER).where(
        aliases.c.version_id.in_(_IDS)
    ),
)


@dataclass(slots=True)
class Labels:
    """What may change about a version without making another one."""

    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)


def labels(tx: Connection, ids: Sequence[int]) -> dict[int, Labels]:
    """Tags, metrics and aliases of these versions: one statement for up to a thousand of them."""
    found = {node: Labels() for node in ids}
    for start in range(0, len(ids), _CHUNK):
        for node, kind, key, value, number in tx.execute(_LABELS, {"ids": ids[start : start + _CHUNK]}):
            if kind == 1:
                found[node].tags[key] = value
            elif kind == 2:
                found[node].metrics[key] = number
            else:
                found[node].aliases.append(key)
    return found


def several(tx: Connection, rows: Iterable[RowMapping]) -> list[Version]:
    """Versions of these rows in their order: two statements more for each thousand, whatever their number."""
    rows = list(rows)
    shapes = layouts.load(tx, (row[versions.c.layout] for row in rows))
    label = labels(tx, [row[versions.c.id] for row in rows])
    return [version(row, shapes[row[versions.c.layout]], label[row[versions.c.id]]) for row in rows]


def version(row: RowMapping, layout: Layout, label: Labels) -> Version:
    """One version of a row of ``ROWS``, its layout and its labels."""
    c = versions.c
    return Version(
        id=row[c.id],
        name=row[names.c.name],
        number=row[c.number],
        base_model=row[base_models.c.name],
        files=row[c.files],
        content=row[c.content],
        kind=row[c.kind],
        level=row[c.level],
        dtype=row[c.dtype],
        rank=row[c.rank],
        alpha=row[c.alpha],
        rslora=row[c.rslora],
        target_modules=tuple(json.loads(row[c.target_modules])),
        modules=tuple(layout),
        parameters=row[c.parameters],
        bytes=row[c.bytes],
        created=row[c.created],
        parent=row[c.parent],
        note=row[c.note],
        tags=dict(sorted(label.tags.items())),
        metrics=dict(sorted(label.metrics.items())),
        aliases=tuple(sorted(label.aliases)),
        config=row[c.config],
        weights=row[c.weights],
        carried=tuple(json.loads(row[c.carried])),
        obstacle=row[c.obstacle],
        naming=row[c.naming],
        method=row[c.method],
    )
