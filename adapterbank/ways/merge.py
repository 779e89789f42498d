"""merge: a recipe over registered versions becomes a new version with lineage; replay and revert go back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from adapterbank.catalog import artefacts as artefact_rows
from adapterbank.catalog.rows import Version
from adapterbank.errors import ConflictError, IntegrityError, Problem
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.engine import Merged, merge
from adapterbank.merge.extend import extend
from adapterbank.merge.methods.opcm import State
from adapterbank.merge.recipe import Recipe, environment
from adapterbank.merge.weights import scheduled
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.writer import encode
from adapterbank.ways import artefacts
from adapterbank.ways.export import export
from adapterbank.ways.joinable import plain_lora, same_base_model
from adapterbank.ways.lineage import Planned, planned, recipe_row
from adapterbank.ways.load import Loaded, load
from adapterbank.ways.register import Entry, Lineage, store
from adapterbank.ways.results import MergedVersion, Progress, Replay, Reverted
from adapterbank.ways.rooms import Rooms

LARGE_RESIDUAL = 0.1
SAME = 3e-7  # relative ΔW difference of two float32 roundings of one merge
Forms = Mapping[str, Mapping[str, Any]]  # of each input kept only in a bounded form: its basis, object and error


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """What a recipe gave, and which inputs were read from a bounded form, each with its error."""

    merged: Merged
    forms: Forms


Judge = Callable[[Planned, Adapter], Any]  # what a merge that learned is worth on data that it did not see


def merge_versions(
    rooms: Rooms,
    entry: Entry,
    of: Planned,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    judge: Judge | None = None,
) -> MergedVersion:
    """Run the recipe and register what comes out, with what ``judge`` says of it. A recipe again gives the same files:
    ``unchanged``."""
    recipe, chosen = of.recipe, of.chosen
    with rooms.catalog.reading() as tx:
        used = artefact_rows.of_objects(tx, recipe.artefacts)
    ran = run(rooms, of, device=device, progress=progress)
    config, weights = encoded(rooms, ran.merged, chosen[0])
    inspection = inspect(config, weights)
    entry = replace(entry, base_model=chosen[0].base_model)
    judged = None if judge is None else judge(of, ran.merged.adapter)
    with rooms.vault.stage() as staged:
        staged.write(weights)
        labels = {artefact.object: artefact.label for artefact in used}
        body = _body(of, ran, labels) | ({} if judged is None else {"held_out": asdict(judged)})
        lineage = Lineage(recipe.method, body, ran.merged.residual, environment(), chosen, used)
        done = store(rooms, entry, config, staged, sha256(weights).hexdigest(), inspection, lineage)
    report = {**ran.merged.report, "modules": dict(ran.merged.module_residuals)}
    warnings = (*_warnings(ran, recipe), *(problem for problem in inspection.problems if problem.severity == "warning"))
    refs = tuple(artefact.ref for artefact in used)
    return MergedVersion(done.version, done.status, ran.merged.residual, ran.merged.rank, report, warnings, refs, judged)


def run(rooms: Rooms, of: Planned, *, device: str = "cpu", progress: Progress | None = None) -> Ran:
    """The merge as a value; nothing is stored. Raises NotFoundError for an artefact that is gone."""
    with opened(rooms, of.chosen) as inputs:
        return run_on(rooms, of, inputs, device=device, progress=progress)


@contextmanager
def opened(rooms: Rooms, chosen: Sequence[Version]) -> Iterator[list[Loaded]]:
    """The adapters of a merge, valid inside the block. Raises IncompatibleError for versions that cannot be joined."""
    same_base_model(chosen)
    plain_lora(chosen)
    with ExitStack() as stack:
        yield [stack.enter_context(load(rooms, version)) for version in chosen]


def run_on(
    rooms: Rooms, of: Planned, inputs: Sequence[Loaded], *, device: str = "cpu", progress: Progress | None = None
) -> Ran:
    """The same on adapters that are open already."""
    forms = {
        version.ref: {"basis": source.form.place, "object": source.form.object, "error": source.form.error}
        for version, source in zip(of.chosen, inputs, strict=True)
        if source.form is not None
    }
    adapters = [source.adapter for source in inputs]
    if of.recipe.continues is not None:
        return Ran(_continued(of.recipe, adapters), forms)
    return Ran(_merged(rooms, of.recipe, adapters, device, progress), forms)


def replay(rooms: Rooms, version: Version, *, device: str = "cpu", progress: Progress | None = None) -> Replay:
    """Run the recipe of a merge again and compare: the same bits, equal within float32 rounding, or not.

    From what is stored alone, artefacts included. Raises NotFoundError naming an artefact that is gone.
    """
    row = recipe_row(rooms, version)
    of = planned(rooms, row)
    artefacts.values_of(rooms, of.recipe.artefacts, row.body.get("artefacts", {}))
    ran = run(rooms, of, device=device, progress=progress)
    config, weights = encoded(rooms, ran.merged, of.chosen[0])
    changed = _changed(row.environment, environment())
    changed |= _changed(_told(of.chosen, row.body["forms"]), _told(of.chosen, ran.forms))
    if inspect(config, weights).content == version.content:
        return Replay(version.ref, "bits", 0.0, changed)
    with load(rooms, version) as loaded:
        difference = delta_error(loaded.adapter, ran.merged.adapter).total
    return Replay(version.ref, "within 3e-7" if difference <= SAME else "differs", difference, changed)


def revert(rooms: Rooms, version: Version, directory: Path) -> Reverted:
    """Write the constituents of a merge to ``directory/NAME@N``: exact where their bytes are kept, else marked as bounded.

    Raises ConflictError, before anything is written, if ``directory`` exists and is not empty.
    """
    chosen = planned(rooms, recipe_row(rooms, version)).chosen
    if directory.exists() and any(directory.iterdir()):
        raise ConflictError(f"{directory} exists and is not an empty directory", hint="name one that does not exist yet")
    return Reverted(version.ref, tuple(export(rooms, each, directory / each.ref, bounded=True) for each in chosen))


def encoded(rooms: Rooms, merged: Merged, first: Version) -> tuple[bytes, bytes]:
    """The two files of the merge; task type and orientation come from the configuration of the first constituent."""
    dtype = next((factors.A.dtype for factors in merged.adapter.modules.values()), torch.float32)
    adapter = replace(merged.adapter, base_model=first.base_model)
    files = encode(adapter, rooms.vault.read(first.config), dtype=dtype)
    return files["adapter_config.json"], files["adapter_model.safetensors"]


def conditions(rooms: Rooms, recipe: Recipe, adapters: Sequence[Adapter]) -> Conditions:
    """What the recipe says beside method, adapters and weights, with the values of its artefacts."""
    values = artefacts.values_of(rooms, recipe.artefacts)
    modules = sorted({module for adapter in adapters for module in adapter.modules})
    names, weights = [part.digest for part in recipe.inputs], [part.weight for part in recipe.inputs]
    return Conditions(scheduled(recipe.schedules, modules, names, weights), recipe.absent, recipe.prepare, values)


def _merged(rooms: Rooms, recipe: Recipe, adapters: Sequence[Adapter], device: str, progress: Progress | None) -> Merged:
    return merge(
        recipe.method,
        adapters,
        [ingredient.weight for ingredient in recipe.inputs],
        names=[ingredient.digest for ingredient in recipe.inputs],
        rank=recipe.rank,
        options=recipe.options,
        seed=recipe.seed,
        dtype=getattr(torch, recipe.dtype),
        conditions=conditions(rooms, recipe, adapters),
        device=device,
        progress=progress,
    )


def _continued(recipe: Recipe, adapters: Sequence[Adapter]) -> Merged:
    """One step of a sequential merge from the state of its first input."""
    if recipe.continues is None or len(adapters) != 2:
        raise IntegrityError("a merge that continues another has that one and a new adapter as inputs, no others")
    previous, new = adapters
    options = {name: value for name, value in recipe.options.items() if name in ("alpha", "k_max")}
    state = State.of(recipe.continues)
    done = extend(previous, state, new, weight=recipe.inputs[1].weight, dtype=getattr(torch, recipe.dtype), **options)
    facts = dict.fromkeys(done.adapter.modules, done.state.facts())
    return Merged(done.adapter, 0.0, {}, done.adapter.rank, {"truncated": done.residual}, facts)


def _body(of: Planned, ran: Ran, labels: Mapping[str, str]) -> dict[str, Any]:
    """The row's own record: what stood behind the digests, and what the method told about each module."""
    facts = {name: _finite(told) for name, told in ran.merged.facts.items()}
    return {
        "refs": [version.ref for version in of.chosen],
        "forms": ran.forms,
        "recipe": of.recipe.to_json(),
        "artefacts": dict(labels),
        "facts": facts,
        "residuals": _finite(ran.merged.module_residuals),
    }


def _finite(told: Mapping[str, float]) -> dict[str, float]:
    """The numbers that JSON can hold."""
    return {name: float(value) for name, value in told.items() if isfinite(value)}


def _warnings(ran: Ran, recipe: Recipe) -> tuple[Problem, ...]:
    """What the user may not expect; a loss that was asked for as such (by energy or error) is no surprise."""
    found = [
        Problem("bounded_input", f"{ref} is kept only in a bounded form, error {form['error']:.3g}", ref, "warning")
        for ref, form in ran.forms.items()
    ]
    merged = ran.merged
    if merged.residual > LARGE_RESIDUAL and not isinstance(recipe.rank, Mapping):
        message = (
            f"rank {merged.rank} leaves out {merged.residual:.3f} of the merged ΔW (relative): "
            "give a larger --rank; the method cat cuts nothing and keeps the exact weighted sum"
        )
        found.append(Problem("large_residual", message, severity="warning"))
    return tuple(found)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    pairs = {key: (before.get(key), now.get(key)) for key in sorted({*before, *now})}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _told(chosen: Sequence[Version], forms: Forms) -> dict[str, str]:
    """What each input is read from, in words: its exact bytes, or the bounded form that stands for it."""
    words = {ref: f"bounded, {form['basis']}, error {form['error']:.3g}" for ref, form in forms.items()}
    return {f"input {version.ref}": words.get(version.ref, "exact") for version in chosen}
