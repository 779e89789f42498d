"""Curves as PNG: error against bits for each collection, accuracy against bits."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.rate_distortion.accuracies import OFF, ORIGINAL
from benchmarks.rate_distortion.curves import Curve
from benchmarks.rate_distortion.measured import Measured
from benchmarks.rate_distortion.points import ALONE, OURS, TOGETHER

_SIZE, _DPI = (8.0, 5.2), 110
_INK, _BOUND = "#c1121f", "#222222"
_MARKERS = "osD^v<>phX*P"


def draw(found: Sequence[Measured], folder: Path) -> list[Path]:
    """One picture for each collection that is shown, one for accuracies; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_errors(one, folder) for one in found if one.is_shown]
    return written + [_accuracies(one, folder) for one in found if one.accuracies]


def _errors(measured: Measured, folder: Path) -> Path:
    figure, axes = _axes()
    methods = list(dict.fromkeys(point.method for point in measured.points if point.method not in OURS))
    for number, method in enumerate(methods):
        curve = Curve.of(point for point in measured.points if point.method == method)
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(curve.bits, curve.errors, marker=marker, markersize=4, linewidth=0.8, alpha=0.75, label=method)
    for method, style in ((ALONE, "-"), (TOGETHER, "--")):
        curve = Curve.of(point for point in measured.points if point.method == method)
        if curve.errors:
            axes.plot(curve.bits, curve.errors, style, color=_INK, linewidth=2.2, marker=".", label=method)
    bounds = sorted(measured.bounds, key=lambda bound: bound.error)
    held = [max(bound.each, 1e-4) for bound in bounds]
    axes.plot(held, [bound.error for bound in bounds], ":", color=_BOUND, linewidth=1.4, label="Gaussian Shannon bound")
    axes.set(xscale="log", yscale="log", xlabel="bits per LoRA parameter, everything counted", ylabel="mean relative ΔW error")
    axes.set(ylim=(0.015, 1.05), xlim=(0.006, 20.0), title=f"{measured.family.name}: {measured.family.title}")
    return _saved(figure, axes, folder / f"fidelity-{measured.family.name}.png")


def _accuracies(measured: Measured, folder: Path) -> Path:
    figure, axes = _axes()
    known = [point for point in measured.points if point.accuracy is not None]
    for number, method in enumerate(dict.fromkeys(point.method for point in known if point.method not in OURS)):
        own = sorted((p.bits, 100 * (p.accuracy or 0.0)) for p in known if p.method == method)
        axes.plot(*zip(*own, strict=True), marker=_MARKERS[number % len(_MARKERS)], markersize=5, linewidth=0.7, label=method)
    own = sorted((p.bits, 100 * (p.accuracy or 0.0)) for p in known if p.method == ALONE)
    axes.plot(*zip(*own, strict=True), color=_INK, linewidth=2.2, marker=".", label=ALONE)
    for label, style in ((ORIGINAL, "--"), (OFF, ":")):
        axes.axhline(100 * mean(measured.accuracies[label].values()), color=_BOUND, linestyle=style, linewidth=1.0, label=label)
    axes.set(xscale="log", xlabel="bits per LoRA parameter, everything counted", ylabel="mean task accuracy, %")
    axes.set(title=f"{measured.family.name}: {measured.family.title}")
    return _saved(figure, axes, folder / f"accuracy-{measured.family.name}.png")


def _axes() -> tuple[Any, Any]:
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    figure, axes = import_module("matplotlib.pyplot").subplots(figsize=_SIZE, layout="constrained")
    axes.grid(True, which="both", linewidth=0.3, alpha=0.6)
    return figure, axes


def _saved(figure: Any, axes: Any, path: Path) -> Path:
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    import_module("matplotlib.pyplot").close(figure)
    return path
