"""Recipes of merges: what was merged and how, and the edges to the constituents that ``revert`` needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from adapterbank.catalog import digests, edges
from adapterbank.catalog import tables as t
from adapterbank.catalog.rows import Artefact, Recipe, Version
from adapterbank.container import canonical_json


def add(
    tx: Connection,
    version: Version,
    *,
    method: str,
    body: Mapping[str, Any],
    residual: float,
    environment: Mapping[str, Any],
    constituents: Iterable[Version],
    artefacts: Iterable[Artefact] = (),
) -> Recipe:
    """Record how the merge ``version`` was made; its constituents and what it used can then not be removed before it.

    ``body["artefacts"]`` names the objects of ``artefacts``, if there are any.
    """
    values = {
        "version_id": version.id,
        "method": method,
        "body": canonical_json(body),
        "residual": residual,
        "environment": canonical_json(environment),
    }
    digests.insert(tx, t.recipes, values)
    for node in sorted({constituent.id for constituent in constituents}):
        edges.add(tx, version.id, node, edges.CONSTITUENT)
    for node in sorted({artefact.id for artefact in artefacts}):
        edges.add(tx, version.id, node, edges.USING)
    return Recipe(version.ref, method, dict(body), residual, dict(environment))


def get(tx: Connection, version: Version) -> Recipe | None:
    """The recipe of a version, its row checked; None for one that was not merged."""
    row = tx.execute(select(t.recipes).where(t.recipes.c.version_id == version.id)).mappings().first()
    if row is None:
        return None
    digests.check(t.recipes, row)
    return Recipe(version.ref, row["method"], json.loads(row["body"]), row["residual"], json.loads(row["environment"]))
