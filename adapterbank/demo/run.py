"""The demo: real adapters go in, one basis holds them all, each comes back, two merges are made, everything is measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from adapterbank.demo import acts
from adapterbank.demo.acts import MERGES, Coding, Directories, Passage, Scene, Size
from adapterbank.demo.measure import Measurements, Shares, measure
from adapterbank.demo.result import AdapterFigures, BasisFigures, CodedFigures, MergeFigures, Result, SizeOption
from adapterbank.demo.stages import stage
from adapterbank.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterbank.bank import Bank
    from adapterbank.catalog.rows import Basis, Version
    from adapterbank.ways.results import MergedVersion, Option


def run(
    bank: str | Path | None,
    adapters: Path | None,
    data: Path | None,
    console: Console,
    *,
    components: int = 3,
    gauge: str = "svd",
) -> Result:
    """Run everything and return the figures; progress goes to ``console``.

    ``bank`` is kept (None: a temporary one); ``adapters`` is a folder with ``adapters/<skill>/``, ``heads/`` and
    ``sentences.jsonl`` (None: ``examples/minilm`` of the checkout); ``data`` is another labelled set. Without the ``demo``
    extra the result has no accuracies and says so. Raises NotFoundError if there are no adapters or no sentences.
    """
    start = time.monotonic()
    source = adapters or example_folder()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adapterbank-demo-")))
        opened = stack.enter_context(_open(bank or scratch / "bank"))
        result = _perform(Scene(opened, source, scratch, console), data or source / "sentences.jsonl", (gauge, components))
    result["bank"] = str(bank) if bank else None
    result["seconds"] = round(time.monotonic() - start, 1)
    return result


def example_folder() -> Path:
    """``examples/minilm`` of the checkout this package is installed from, or below the current folder."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        folder = root / "examples" / "minilm"
        if (folder / "adapters").is_dir():
            return folder
    raise NotFoundError(
        "the example adapters are not here: they live in examples/minilm of the repository, not in the installed package",
        hint="run this in a clone of the repository, or name a folder that has them: adapterbank demo --adapters DIR",
    )


def _open(place: str | Path) -> Bank:
    from adapterbank.bank import Bank

    return Bank.open(place, create=True)


def _perform(scene: Scene, data: Path, size: Size) -> Result:
    versions = acts.register(scene)
    options = acts.list_sizes(scene, versions)
    with stage(scene.console, f"Building the basis: {size[1]} components, gauge {size[0]}"):
        basis = acts.build(scene, "demo", versions, size)
    passages = acts.write_both(scene, versions, basis)
    others = acts.write_other_sizes(scene, versions, options, size)
    codings = acts.encode(scene, versions)
    merges = acts.merge(scene, versions)
    every: dict[Size | str, Directories] = dict(others.items())
    every |= {coding.quality: coding.directories for coding in codings}
    measured = measure(scene, passages, every, size, data)
    rows = [_adapter(passage, basis, len(passages), measured.skills.get(passage.version.name)) for passage in passages]
    return {
        "bank": None,
        "base_model": basis.base_model,
        "options": {gauge: [_size(gauge, option, measured) for option in found] for gauge, found in options.items()},
        "basis": _basis(basis, passages),
        "coded": [_coded(coding, versions, measured) for coding in codings],
        "merges": [_merge(method, merged) for method, merged in merges.items()],
        "adapters": rows,
        "mean_accuracy": _means([row["accuracy"] for row in rows]),
        "mean_agreement": _means([row["agreement"] for row in rows]),
        "data": str(data),
        "not_measured": measured.missing,
        "seconds": 0.0,
    }


def _adapter(passage: Passage, basis: Basis, members: int, shares: Shares | None) -> AdapterFigures:
    """The figures of one adapter; its stored form counts its coefficients and one of ``members`` shares of the basis."""
    version = passage.version
    stored = passage.member.bytes + round(basis.bytes / members)
    return {
        "name": version.name,
        "ref": version.ref,
        "bytes": version.bytes,
        "parameters": version.parameters,
        "exact": passage.exact,
        "stored_bytes": stored,
        "bits_per_parameter": 8 * version.bytes / version.parameters,
        "stored_bits_per_parameter": 8 * stored / version.parameters,
        "error": passage.member.error,
        "sentences": shares.sentences if shares else 0,
        "accuracy": dict(shares.accuracy) if shares else None,
        "agreement": dict(shares.agreement) if shares else None,
    }


def _size(gauge: str, option: Option, measured: Measurements) -> SizeOption:
    accuracy, agreement = measured.sizes.get((gauge, option.components), (None, None))
    return {
        "components": option.components,
        "bytes": option.bytes,
        "ratio": option.ratio,
        "error_mean": option.error_mean,
        "error_worst": option.error_worst,
        "accuracy": accuracy,
        "agreement": agreement,
    }


def _coded(coding: Coding, versions: Sequence[Version], measured: Measurements) -> CodedFigures:
    size, errors = sum(form.bytes for form in coding.forms), [form.error for form in coding.forms]
    accuracy, agreement = measured.sizes.get(coding.quality, (None, None))
    return {
        "quality": coding.quality,
        "bytes": size,
        "ratio": size / sum(version.bytes for version in versions),
        "bits_per_parameter": 8 * size / sum(version.parameters for version in versions),
        "error_mean": fmean(errors),
        "error_worst": max(errors),
        "accuracy": accuracy,
        "agreement": agreement,
    }


def _basis(basis: Basis, passages: Sequence[Passage]) -> BasisFigures:
    coefficients = sum(passage.member.bytes for passage in passages)
    return {
        "ref": basis.ref,
        "gauge": basis.gauge,
        "components": basis.components or 0,
        "dtype": basis.dtype,
        "bytes": basis.bytes,
        "members_bytes": coefficients,
        "ratio": (basis.bytes + coefficients) / sum(passage.version.bytes for passage in passages),
        "error_mean": basis.error_mean,
        "error_worst": basis.error_worst,
    }


def _merge(method: str, merged: MergedVersion) -> MergeFigures:
    return {
        "ref": merged.version.ref,
        "method": method,
        "options": dict(MERGES[method]),
        "rank": merged.rank,
        "residual": merged.residual,
        "bytes": merged.version.bytes,
    }


def _means(rows: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    """The mean over the adapters that were measured, key by key; None if none was."""
    measured = [row for row in rows if row is not None]
    return {key: fmean(row[key] for row in measured) for key in measured[0]} if measured else None
