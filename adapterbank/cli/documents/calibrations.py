"""Documents about calibration and what it made."""

from __future__ import annotations

from typing import Any, TypedDict

from adapterbank.cli.documents.held_out import HeldOutDocument
from adapterbank.cli.documents.merges import MethodOptionDocument


class ArtefactDocument(TypedDict):
    """What a calibration made: ``family`` is ``statistics`` or ``coefficients``; ``versions`` are those it was made for."""

    ref: str
    family: str
    kind: str
    versions: list[str]
    bytes: int
    created: str
    object: str


class ArtefactsDocument(TypedDict):
    """Results of calibration."""

    artefacts: list[ArtefactDocument]


class CalibratedDocument(TypedDict):
    """What a calibration made, and what it is worth on data that it did not see."""

    artefacts: list[ArtefactDocument]
    held_out: HeldOutDocument | None


class ProcedureDocument(TypedDict):
    """A calibration; ``makes`` is what merge methods name in their ``needs``."""

    name: str
    makes: str
    summary: str
    source: str
    options: list[MethodOptionDocument]


class ProceduresDocument(TypedDict):
    """Calibrations."""

    procedures: list[ProcedureDocument]


class CoefficientsDocument(TypedDict):
    """Coefficients: ``values`` by version and module; ``about`` is how they were found, with the objective's ``trace``;
    ``units`` is the number of modules with masks of rank units."""

    ref: str
    kind: str
    versions: list[str]
    modules: list[str]
    values: dict[str, dict[str, float]]
    units: int
    about: dict[str, Any]


class CoefficientsComparedDocument(TypedDict):
    """Several sets of coefficients: of each the mean and the spread (standard deviation) over modules by version, and the
    matrix of cosines between the sets."""

    refs: list[str]
    kinds: list[str]
    means: dict[str, dict[str, float]]
    spreads: dict[str, dict[str, float]]
    cosine: list[list[float]]
