"""lineage: what a merge was made from, as a recipe; the recipe of a file; and the recipe with one constituent more or less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapterbank.catalog import recipes, versions
from adapterbank.catalog.rows import Recipe as RecipeRow
from adapterbank.catalog.rows import Version
from adapterbank.errors import ConflictError, NotFoundError, UsageError
from adapterbank.merge.recipe import Ingredient, Recipe
from adapterbank.merge.recipe_text import Named, from_yaml, to_yaml
from adapterbank.ways.joinable import each_once
from adapterbank.ways.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Planned:
    """A merge to be made: its recipe, and the versions of its inputs in the recipe's order."""

    recipe: Recipe
    chosen: tuple[Version, ...]


def plan(method: str, chosen: Sequence[tuple[Version, float]], **settings: Any) -> Planned:
    """``method`` over versions with weights; ``settings`` are the other fields of :meth:`Recipe.of`."""
    each_once([version for version, _ in chosen], "a merge")
    recipe = Recipe.of(method, [(version.content, weight) for version, weight in chosen], **settings)
    return Planned(recipe, tuple(version for version, _ in chosen))


def recipe_row(rooms: Rooms, version: Version) -> RecipeRow:
    """How ``version`` was merged. Raises NotFoundError if it was not."""
    with rooms.catalog.reading() as tx:
        row = recipes.get(tx, version)
    if row is None:
        raise NotFoundError(f"{version.ref} is no merge: it was registered from files", hint=f"adapterbank show {version.ref}")
    return row


def planned(rooms: Rooms, row: RecipeRow) -> Planned:
    """The merge as it was made."""
    with rooms.catalog.reading() as tx:
        chosen = tuple(versions.get(tx, ref) for ref in row.body["refs"])
    return Planned(Recipe.from_json(row.body["recipe"]), chosen)


def plus(of: Planned, version: Version, weight: float) -> Planned:
    """The merge with one constituent more, at the end. Raises UsageError if it is one already."""
    if version.content in {part.digest for part in of.recipe.inputs}:
        raise UsageError(f"{version.ref} is in this merge already")
    inputs = (*of.recipe.inputs, Ingredient(version.content, weight))
    return Planned(of.recipe.with_inputs(inputs, of.recipe.artefacts), (*of.chosen, version))


def minus(of: Planned, version: Version) -> Planned:
    """The merge without one constituent. Raises UsageError if it is none, or the only one."""
    left = [i for i, part in enumerate(of.recipe.inputs) if part.digest != version.content]
    if len(left) == len(of.chosen):
        listed = ", ".join(each.ref for each in of.chosen)
        raise UsageError(f"{version.ref} is no constituent of this merge", hint=f"its constituents: {listed}")
    if not left:
        raise UsageError(f"{version.ref} is the only constituent: nothing would be left")
    inputs = tuple(of.recipe.inputs[i] for i in left)
    rules = tuple(rule for rule in of.recipe.schedules if rule.get("input") != version.content)
    recipe = replace(of.recipe.with_inputs(inputs, of.recipe.artefacts), schedules=rules)
    return Planned(recipe, tuple(of.chosen[i] for i in left))


def written(of: Planned) -> str:
    """The recipe as YAML, with references of this bank beside the digests."""
    return to_yaml(of.recipe, {version.content: version.ref for version in of.chosen})


def read(rooms: Rooms, text: str, where: str) -> Planned:
    """The merge that a YAML file says. Raises UsageError, NotFoundError for an input that is not in this bank, ConflictError
    for one whose reference means other content here."""
    told = from_yaml(text, where)
    chosen = [_found(rooms, part) for part in told.inputs]
    weights = [part.weight for part in told.inputs]
    return plan(told.method, list(zip(chosen, weights, strict=True)), **told.settings)


def _found(rooms: Rooms, part: Named) -> Version:
    """By digest where there is one: references move. The reference then only chooses among equal ones."""
    with rooms.catalog.reading() as tx:
        named = None
        if part.ref is not None:
            try:
                named = versions.get(tx, part.ref)
            except NotFoundError:
                if part.digest is None:
                    raise
        if part.digest is None or (named is not None and named.content == part.digest):
            assert named is not None
            return named
        if named is not None:
            raise ConflictError(
                f"{part.ref} has the content sha256:{named.content[:12]} here, the recipe says sha256:{part.digest[:12]}",
                hint="leave out ref or digest, whichever is not meant",
            )
        found = versions.find_by_content(tx, part.digest)
    if found is None:
        raise NotFoundError(f"no version in this bank has the content sha256:{part.digest}", hint="adapterbank register DIR")
    return found
