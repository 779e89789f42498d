"""The demo: real adapters go in, one basis holds them all, each comes back, two merges are made, everything is measured.

Only the façade is used, as a user would use it; the accuracies are those of the PEFT directories it wrote.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from adapterbank.demo.encoder import BASE_MODEL
from adapterbank.demo.evaluate import Evaluator, read_sentences
from adapterbank.demo.measure import Measured, Passage, figures, measure
from adapterbank.demo.result import BasisFigures, MergeFigures, Result, SizeOption
from adapterbank.demo.stages import stage
from adapterbank.errors import MissingExtraError, NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterbank.bank import Bank
    from adapterbank.catalog.rows import Basis, Version

BASIS = "demo"
STORE_DTYPE = "bfloat16"  # the adapters are bfloat16 themselves; a float32 basis of eight would be larger than they are
GAUGES = ("given", "svd")
MERGES: Mapping[str, Mapping[str, float]] = {"task_arithmetic": {"scale": 0.3}, "ties": {"density": 0.2}}
MERGE_RANK = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the demo works: an open bank, the folder with ``adapters/`` and ``heads/``, a place to write, a console."""

    bank: Bank
    source: Path
    scratch: Path
    console: Console

    @property
    def originals(self) -> list[Path]:
        return sorted(path.parent for path in (self.source / "adapters").glob("*/adapter_config.json"))


def run(
    bank: Path | None,
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
        result = _perform(Scene(opened, source, scratch, console), data or source / "sentences.jsonl", components, gauge)
    result["bank"] = str(bank) if bank else None
    result["seconds"] = round(time.monotonic() - start, 1)
    return result


def _perform(scene: Scene, data: Path, components: int, gauge: str) -> Result:
    versions = _register(scene)
    options = {kind: _options(scene, versions, kind) for kind in GAUGES}
    basis = _build(scene, versions, components, gauge)
    passages = _write_both(scene, versions, basis)
    merges = _merge(scene, versions)
    measured, missing = _measure(scene, passages, data)
    rows = [figures(passage, basis, len(passages), measured.get(passage.version.name)) for passage in passages]
    return {
        "bank": None,
        "base_model": versions[0].base_model,
        "options": options,
        "basis": _basis_figures(basis, passages),
        "merges": merges,
        "adapters": rows,
        "mean_accuracy": _means([row["accuracy"] for row in rows]),
        "mean_agreement": _means([row["agreement"] for row in rows]),
        "data": str(data),
        "not_measured": missing,
        "seconds": 0.0,
    }


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


def _open(place: Path) -> Bank:
    from adapterbank.bank import Bank

    return Bank.open(str(place), create=True)


def _register(scene: Scene) -> list[Version]:
    if not scene.originals:
        raise NotFoundError(f"no adapters in {scene.source / 'adapters'}: expected a PEFT directory for each skill")
    versions = []
    with stage(scene.console, "Registering adapters") as say:
        for path in scene.originals:
            versions.append(scene.bank.register(str(path), name=path.name, base_model=BASE_MODEL).version)
            say(f"{len(versions)} of {len(scene.originals)}")
    return versions


def _options(scene: Scene, versions: Sequence[Version], gauge: str) -> list[SizeOption]:
    with stage(scene.console, f"Sizes that a basis could have, gauge {gauge}"):
        found = scene.bank.basis_options([version.ref for version in versions], gauge=gauge, dtype=STORE_DTYPE)
    return [
        {
            "components": option.components,
            "bytes": option.bytes,
            "ratio": option.ratio,
            "error_mean": option.error_mean,
            "error_worst": option.error_worst,
        }
        for option in found
    ]


def _build(scene: Scene, versions: Sequence[Version], components: int, gauge: str) -> Basis:
    with stage(scene.console, "Building the basis") as say:
        refs = [version.ref for version in versions]
        basis = scene.bank.build_basis(BASIS, refs, components=components, gauge=gauge, dtype=STORE_DTYPE)
        say(f"{basis.ref}, {components} components, gauge {gauge}")
    return basis


def _write_both(scene: Scene, versions: Sequence[Version], basis: Basis) -> list[Passage]:
    """Write every adapter twice: its exact bytes, and its reconstruction from the basis."""
    members = {member.version: member for member in scene.bank.members(basis.ref)}
    done = []
    with stage(scene.console, "Writing originals and reconstructions") as say:
        for source, version in zip(scene.originals, versions, strict=True):
            exported = scene.scratch / "exported" / version.name
            rebuilt = scene.scratch / "reconstructed" / version.name
            scene.bank.export(version.ref, str(exported))
            scene.bank.write_reconstruction(version.ref, str(rebuilt), basis=basis.ref)
            done.append(Passage(version, members[version.ref], _same_files(source, exported), exported, rebuilt))
            say(f"{len(done)} of {len(versions)}")
    return done


def _same_files(first: Path, second: Path) -> bool:
    names = ("adapter_config.json", "adapter_model.safetensors")
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def _merge(scene: Scene, versions: Sequence[Version]) -> list[MergeFigures]:
    """One merge of all adapters by each method, exported to ``merged/<method>``."""
    done: list[MergeFigures] = []
    weights = {version.ref: 1.0 for version in versions}
    for method, options in MERGES.items():
        with stage(scene.console, f"Merging all with {method}"):
            merged = scene.bank.merge(method, weights, name=f"all-{method}", rank=MERGE_RANK, options=dict(options))
            scene.bank.export(merged.version.ref, str(scene.scratch / "merged" / method))
        done.append(
            {
                "ref": merged.version.ref,
                "method": method,
                "options": dict(options),
                "rank": merged.rank,
                "residual": merged.residual,
                "bytes": merged.version.bytes,
            }
        )
    return done


def _measure(scene: Scene, passages: Sequence[Passage], data: Path) -> tuple[dict[str, Measured], str | None]:
    """What was measured, by skill, and why there are no accuracies, if there are none."""
    try:
        with stage(scene.console, "Loading the encoder"):
            sentences = read_sentences(data, [passage.version.name for passage in passages])
            evaluator = Evaluator(scene.source / "heads", sentences)
    except MissingExtraError as error:
        return {}, str(error)
    merged = {method: scene.scratch / "merged" / method for method in MERGES}
    with stage(scene.console, "Answering the sentences") as say:
        return measure(evaluator, passages, merged, say), None


def _basis_figures(basis: Basis, passages: Sequence[Passage]) -> BasisFigures:
    coefficients = sum(passage.member.bytes for passage in passages)
    return {
        "ref": basis.ref,
        "gauge": basis.gauge,
        "components": basis.components,
        "dtype": basis.dtype,
        "bytes": basis.bytes,
        "members_bytes": coefficients,
        "ratio": (basis.bytes + coefficients) / sum(passage.version.bytes for passage in passages),
        "error_mean": basis.error_mean,
        "error_worst": basis.error_worst,
    }


def _means(rows: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    """The mean over the adapters that were measured, key by key; None if none was."""
    measured = [row for row in rows if row is not None]
    return {key: fmean(row[key] for row in measured) for key in measured[0]} if measured else None
