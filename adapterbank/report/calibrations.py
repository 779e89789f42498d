"""Pictures of calibration and what it made."""

from __future__ import annotations

from itertools import pairwise

from rich.console import Group, RenderableType

from adapterbank.report.explained import matrix
from adapterbank.report.grid import Column, Row, facts, grid, line, titled
from adapterbank.report.held_out import held_out
from adapterbank.report.words import figure, pairs, safe, several, size, when

_ARTEFACTS = (
    Column("artefact", "ref", style="cyan", whole=True),
    Column("kind", "kind"),
    Column("of", "versions", several),
    Column("size", "bytes", size, right=True),
    Column("made", "created", when),
)
_PROCEDURES = (
    Column("kind", "name", style="cyan", whole=True),
    Column("makes", "makes"),
    Column("what", "summary"),
    Column("options", "options", lambda options: pairs({option["name"]: option["default"] for option in options})),
    Column("source", "source"),
)
_VALUES = (
    Column("adapter", "version", style="cyan", whole=True),
    Column("mean", "mean", figure, right=True),
    Column("least", "least", figure, right=True),
    Column("most", "most", figure, right=True),
    Column("over the modules, in order", "course"),
)
_STEPS = "▁▂▃▄▅▆▇█"
_WIDTH = 48
_SHORT = (str, int, float, bool)


def artefacts(document: Row) -> RenderableType:
    """A row per artefact."""
    return grid(_ARTEFACTS, document["artefacts"], "no artefacts")


def calibrated(document: Row) -> RenderableType:
    """A row per artefact, then what was learned on data that it did not see."""
    return Group(artefacts(document), *held_out(document["held_out"]))


def procedures(document: Row) -> RenderableType:
    """A row per calibration."""
    return grid(_PROCEDURES, document["procedures"], "no calibrations")


def coefficients(document: Row) -> RenderableType:
    """A row per adapter with its course over the modules, then how they were found."""
    least = min((value for row in document["values"].values() for value in row.values()), default=0.0)
    most = max((value for row in document["values"].values() for value in row.values()), default=0.0)
    rows = [
        {
            "version": version, "mean": sum(row.values()) / max(len(row), 1), "least": min(row.values(), default=0.0),
            "most": max(row.values(), default=0.0), "course": _course(list(row.values()), least, most),
        }
        for version, row in document["values"].items()
    ]  # fmt: skip
    head = f"{document['ref']}  {document['kind']}  {len(document['modules'])} modules"
    head += f", masks of rank units in {document['units']}" if document["units"] else ""
    about = document["about"]
    return Group(line(head, "bold"), grid(_VALUES, rows, ""), *_about(about), *held_out(about.get("held_out")))


def compared(document: Row) -> RenderableType:
    """Means and spreads by adapter and set, then the cosines between the sets."""
    versions = list(next(iter(document["means"].values()), {}))
    columns = [Column("artefact", "ref", style="cyan", whole=True), Column("kind", "kind")]
    columns += [Column(version, version, right=True) for version in versions]
    rows = [
        {"ref": ref, "kind": kind, **{v: _mean(document["means"][ref][v], document["spreads"][ref][v]) for v in versions}}
        for ref, kind in zip(document["refs"], document["kinds"], strict=True)
    ]
    return Group(grid(columns, rows, ""), *titled("Cosines", matrix(document["refs"], document["cosine"])))


def _mean(mean: float, spread: float) -> str:
    return f"{mean:.3g} ± {spread:.2g}"


def _about(about: Row) -> list[RenderableType]:
    """What is short is told; of what is long (a trace) its two ends."""
    told = {}
    for key, value in about.items():
        if isinstance(value, _SHORT):
            told[key] = safe(value)
        elif isinstance(value, dict) and all(isinstance(item, _SHORT) for item in value.values()):
            told[key] = pairs(value)
        elif isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
            told[key] = f"{value[0]:.4g} to {value[-1]:.4g} ({len(value)} values)"
    return titled("How it was found", facts([Column(key, key) for key in told], told)) if told else []


def _course(values: list[float], least: float, most: float) -> str:
    """The values as a line of small bars, at most 48 of them: means of neighbours where there are more."""
    count = min(len(values), _WIDTH)
    cuts = [round(i * len(values) / count) for i in range(count + 1)] if count else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    scale = (len(_STEPS) - 1) / (most - least) if most > least else 0.0
    return "".join(_STEPS[round((mean - least) * scale)] for mean in means)
