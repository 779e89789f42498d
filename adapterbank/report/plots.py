"""Pictures as files, drawn by matplotlib from the documents of ``--json``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adapterbank.errors import MissingExtraError, StorageError, UsageError
from adapterbank.report.grid import Row

PIP_LINE = "pip install 'adapterbank[plot]'"
FORMATS = (".png", ".pdf", ".svg")
_INCH = 0.45


def explanation(document: Row, path: Path) -> None:
    """The matrix of cosines beside the conflicts of every module. Raises MissingExtraError, UsageError, StorageError."""
    figure_of = _figures(path)
    names, modules = document["inputs"], document["modules"]
    figure = figure_of(figsize=(8 + _INCH * len(names), max(4.0, 2.5 + _INCH * len(names))), layout="constrained")
    left, right = figure.subplots(1, 2)
    _heat(figure, left, document["cosine"], names)
    places = range(len(modules))
    right.plot(places, [module["disagreement"] for module in modules], label="opposite signs", linewidth=1)
    right.plot(places, [module["cancelled"] for module in modules], label="cancelled in the sum", linewidth=1)
    if any(module["residual"] is not None for module in modules):
        right.plot(places, [module["residual"] or 0.0 for module in modules], label="residual of the cut", linewidth=1)
    right.set(xlabel="module", ylabel="share", ylim=(0, None), title=document["ref"] or "not merged")
    right.legend(fontsize="small")
    _save(figure, path)


def comparison(document: Row, path: Path) -> None:
    """The score of every method (its residual where nobody judged) against its seconds. Raises as :func:`explanation`."""
    figure_of = _figures(path)
    rows = [row for row in document["methods"] if row["failed"] is None]
    key = "score" if any(row["score"] is not None for row in rows) else "residual"
    figure = figure_of(figsize=(7, 1.5 + 0.35 * len(rows)), layout="constrained")
    bars, times = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    labels = [_label(row) for row in rows]
    bars.barh(labels, [row[key] or 0.0 for row in rows])
    bars.set(xlabel=f"mean {key}" if key == "score" else key)
    bars.invert_yaxis()
    times.barh(labels, [row["seconds"] for row in rows], color="tab:gray")
    times.set(xlabel="seconds")
    _save(figure, path)


def _label(row: Row) -> str:
    options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
    return f"{row['method']} ({options})" if options else str(row["method"])


def _heat(figure: Any, axes: Any, matrix: Any, names: Any) -> None:
    image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), title="cosine of ΔW")
    axes.set_xticklabels(names, rotation=60, ha="right", fontsize="small")
    axes.set_yticklabels(names, fontsize="small")
    figure.colorbar(image, ax=axes, shrink=0.7)


def _figures(path: Path) -> Any:
    """What makes a figure. No window is ever opened: figures are made without pyplot."""
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("plots need the package 'matplotlib', which is not installed", hint=PIP_LINE)
    from matplotlib.figure import Figure

    return Figure


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from None
