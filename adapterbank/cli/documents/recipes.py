"""Documents about recipes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

from adapterbank.cli.documents import document

if TYPE_CHECKING:
    from adapterbank.catalog.rows import Recipe


class IngredientDocument(TypedDict):
    """An input of a merge; ``digest`` is that of its content."""

    ref: str
    digest: str
    weight: float


class PrepareDocument(TypedDict):
    """What was done to the adapters before the merge."""

    name: str
    options: dict[str, Any]


class RecipeDocument(TypedDict):
    """The recipe of a merge. ``rank`` is a number, an object with ``energy`` or ``error``, ``"exact"`` or null (the method's
    own); ``schedules`` are rules for weights by module, ``artefacts`` the objects it used, each with what it is, ``continues``
    the state of the first input from which it went on; ``forms`` has the stored form of each input whose exact bytes were gone
    already."""

    method: str
    inputs: list[IngredientDocument]
    options: dict[str, Any]
    rank: Any
    absent: str
    prepare: list[PrepareDocument]
    schedules: list[dict[str, Any]]
    artefacts: dict[str, str]
    continues: dict[str, float] | None
    seed: int
    dtype: str
    residual: float
    forms: dict[str, Any]
    environment: dict[str, str]


_OF_THE_ROW = ("method", "residual", "environment")


def opened(recipe: Recipe | None) -> RecipeDocument | None:
    """The recipe with its body opened: the inputs by reference, digest and weight; None for no merge."""
    if recipe is None:
        return None
    body = json.loads(recipe.body["recipe"])
    inputs = [{"ref": ref, **given} for ref, given in zip(recipe.body["refs"], body["inputs"], strict=True)]
    given = {**body, "inputs": inputs, "forms": recipe.body["forms"], "artefacts": recipe.body.get("artefacts", {})}
    own = {key: value for key, value in given.items() if key in RecipeDocument.__annotations__ and key not in _OF_THE_ROW}
    return document(RecipeDocument, recipe, **own)


class RecipeTextDocument(TypedDict):
    """The recipe of a merge as the text of a YAML file; ``digest`` is that of the recipe, ``path`` where it was written."""

    ref: str
    digest: str
    path: str | None
    text: str
