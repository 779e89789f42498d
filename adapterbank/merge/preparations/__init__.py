"""The table of preparations: one line each; command line options and documentation follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from adapterbank.merge.preparation import Preparation

PREPARATIONS: Mapping[str, Preparation] = {}
