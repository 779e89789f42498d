"""merge: a recipe over registered versions becomes a new version with lineage; replay and revert go back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from adapterbank.catalog import recipes, versions
from adapterbank.catalog.rows import Recipe as RecipeRow
from adapterbank.catalog.rows import Version
from adapterbank.errors import ConflictError, NotFoundError, Problem
from adapterbank.lora.delta import delta_error
from adapterbank.merge.engine import Merged, merge
from adapterbank.merge.recipe import Recipe, environment
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.writer import encode
from adapterbank.ways.export import export
from adapterbank.ways.joinable import each_once, plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.register import Entry, Lineage, store
from adapterbank.ways.results import MergedVersion, Progress, Replay, Reverted
from adapterbank.ways.rooms import Rooms

LARGE_RESIDUAL = 0.1
SAME = 3e-7  # relative ΔW difference of two float32 roundings of one merge
Forms = Mapping[str, Mapping[str, Any]]  # of each input kept only in a bounded form: its basis, object and error


def merge_versions(
    rooms: Rooms, entry: Entry, recipe: Recipe, chosen: Sequence[Version], progress: Progress | None = None
) -> MergedVersion:
    """Run ``recipe`` over ``chosen`` and register what comes out. A recipe again gives the same files: ``unchanged``."""
    same_base_model(chosen)
    plain_lora(chosen)
    merged, forms = _run(rooms, recipe, chosen, progress)
    config, weights = _encode(rooms, merged, chosen[0])
    body = {"refs": [version.ref for version in chosen], "forms": forms, "recipe": recipe.to_json()}
    inspection = inspect(config, weights)
    entry = replace(entry, base_model=chosen[0].base_model)
    with rooms.vault.stage() as staged:
        staged.write(weights)
        lineage = Lineage(recipe.method, body, merged.residual, environment(), chosen)
        done = store(rooms, entry, config, staged, sha256(weights).hexdigest(), inspection, lineage)
    report = {**merged.report, "modules": dict(merged.module_residuals)}
    warnings = (*_warnings(merged, forms), *(problem for problem in inspection.problems if problem.severity == "warning"))
    return MergedVersion(done.version, done.status, merged.residual, merged.rank, report, warnings)


def replay(rooms: Rooms, version: Version) -> Replay:
    """Run the recipe of a merge again and compare: the same bits, equal within float32 rounding, or not."""
    row = _recipe(rooms, version)
    recipe, chosen = Recipe.from_json(row.body["recipe"]), _constituents(rooms, row)
    merged, forms = _run(rooms, recipe, chosen, None)
    config, weights = _encode(rooms, merged, chosen[0])
    changed = _changed(row.environment, environment()) | _changed(_told(chosen, row.body["forms"]), _told(chosen, forms))
    if inspect(config, weights).content == version.content:
        return Replay(version.ref, "bits", 0.0, changed)
    with load(rooms, version) as loaded:
        difference = delta_error(loaded.adapter, merged.adapter).total
    return Replay(version.ref, "within 3e-7" if difference <= SAME else "differs", difference, changed)


def revert(rooms: Rooms, version: Version, directory: Path) -> Reverted:
    """Write the constituents of a merge to ``directory/NAME@N``: exact where their bytes are kept, else marked as bounded.

    Raises ConflictError, before anything is written, if ``directory`` exists and is not empty.
    """
    chosen = _constituents(rooms, _recipe(rooms, version))
    if directory.exists() and any(directory.iterdir()):
        raise ConflictError(f"{directory} exists and is not an empty directory", hint="name one that does not exist yet")
    return Reverted(version.ref, tuple(export(rooms, each, directory / each.ref, bounded=True) for each in chosen))


def _run(rooms: Rooms, recipe: Recipe, chosen: Sequence[Version], progress: Progress | None) -> tuple[Merged, Forms]:
    """The merge, and for each input that is kept only in a bounded form which one it was and its error."""
    with ExitStack() as stack:
        inputs = [stack.enter_context(load(rooms, version)) for version in chosen]
        forms = {
            version.ref: {"basis": source.form.place, "object": source.form.object, "error": source.form.error}
            for version, source in zip(chosen, inputs, strict=True)
            if source.form is not None
        }
        merged = merge(
            recipe.method,
            [source.adapter for source in inputs],
            [ingredient.weight for ingredient in recipe.inputs],
            names=[ingredient.digest for ingredient in recipe.inputs],
            rank=recipe.rank,
            options=recipe.options,
            seed=recipe.seed,
            dtype=getattr(torch, recipe.dtype),
            progress=progress,
        )
    return merged, forms


def _encode(rooms: Rooms, merged: Merged, first: Version) -> tuple[bytes, bytes]:
    """The two files of the merge; task type and orientation come from the configuration of the first constituent."""
    dtype = next((factors.A.dtype for factors in merged.adapter.modules.values()), torch.float32)
    adapter = replace(merged.adapter, base_model=first.base_model)
    files = encode(adapter, rooms.vault.read(first.config), dtype=dtype)
    return files["adapter_config.json"], files["adapter_model.safetensors"]


def _warnings(merged: Merged, forms: Forms) -> tuple[Problem, ...]:
    found = [
        Problem("bounded_input", f"{ref} is kept only in a bounded form, error {form['error']:.3g}", ref, "warning")
        for ref, form in forms.items()
    ]
    if merged.residual > LARGE_RESIDUAL:
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


def _recipe(rooms: Rooms, version: Version) -> RecipeRow:
    with rooms.catalog.reading() as tx:
        row = recipes.get(tx, version)
    if row is None:
        raise NotFoundError(f"{version.ref} is no merge: it was registered from files", hint=f"adapterbank show {version.ref}")
    return row


def _constituents(rooms: Rooms, row: RecipeRow) -> list[Version]:
    with rooms.catalog.reading() as tx:
        return [versions.get(tx, ref) for ref in row.body["refs"]]


def recipe_for(method: str, chosen: Sequence[tuple[Version, float]], **settings: Any) -> Recipe:
    """The recipe of ``method`` over versions with weights; ``settings`` are options, rank, seed and dtype."""
    each_once([version for version, _ in chosen], "a merge")
    return Recipe.of(method, [(version.content, weight) for version, weight in chosen], **settings)
