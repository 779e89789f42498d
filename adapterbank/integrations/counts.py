"""What a resolver has done, as a file in Prometheus's text format: the server that it lives in shows only its own figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_NAME = "adapterbank_resolver_requests_total"
_ABOUT = f"# HELP {_NAME} Requests for models that the server did not know.\n# TYPE {_NAME} counter\n"


def text(outcomes: Mapping[str, int]) -> str:
    """The counts by outcome in the text format 0.0.4, in the order of ``outcomes``."""
    return _ABOUT + "".join(f'{_NAME}{{outcome="{outcome}"}} {count}\n' for outcome, count in outcomes.items())


def write(folder: Path, lease: str, outcomes: Mapping[str, int]) -> None:
    """As ``LEASE.PID.prom`` in ``folder``, whole at any moment. A folder that cannot be written stops nobody."""
    place = folder / f"{lease}.{os.getpid()}.prom"
    with suppress(OSError):
        partial = place.with_suffix(".partial")
        partial.write_text(text(outcomes), encoding="utf-8")
        partial.replace(place)
