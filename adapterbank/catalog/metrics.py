"""Metrics: finite numbers by key that somebody measured for a version."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sqlalchemy import Connection, bindparam

from adapterbank.catalog import tables as t
from adapterbank.errors import UsageError
from adapterbank.refs import check_name

_DELETE = t.metrics.delete().where(t.metrics.c.version_id == bindparam("of"), t.metrics.c.key == bindparam("named"))
_INSERT = t.metrics.insert()


def put(tx: Connection, version_id: int, metrics: Mapping[str, float | None]) -> None:
    """Write metrics, replacing those of the same key; None removes one. Raises UsageError for NaN, infinity or a bad key."""
    for key, value in metrics.items():
        check_name(key, "metric")
        if value is not None and not math.isfinite(value):
            raise UsageError(f"metric {key!r} is {value}: expected a finite number")
        tx.execute(_DELETE, {"of": version_id, "named": key})
        if value is not None:
            tx.execute(_INSERT, {"version_id": version_id, "key": key, "value": float(value)})
