"""The table of preparations: one line each; command line options and documentation follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from adapterbank.merge.preparation import Preparation
from adapterbank.merge.preparations import align_permutation, align_procrustes, pico

PREPARATIONS: Mapping[str, Preparation] = {
    "pico": pico.PREPARATION,
    "align_permutation": align_permutation.PREPARATION,
    "align_procrustes": align_procrustes.PREPARATION,
}
