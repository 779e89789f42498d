"""Merges: from a recipe to a version, again, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterbank.bank.opened import Opened
from adapterbank.catalog import recipes, versions
from adapterbank.catalog.rows import Recipe, Version
from adapterbank.errors import UsageError
from adapterbank.ways import merge_results, register, results

if TYPE_CHECKING:
    from adapterbank.calibration.tasks import Setting

Rank = int | Mapping[str, float] | str | None
Evaluate = Callable[[str, list[str]], Mapping[str, float]]


class Merges(Opened):
    """Merging versions in ΔW space, with lineage."""

    def merge(
        self,
        method: str,
        weights: Mapping[str, float],
        *,
        name: str,
        rank: Rank = None,
        options: Mapping[str, Any] | None = None,
        absent: str = "zero",
        prepare: Sequence[tuple[str, Mapping[str, Any]]] = (),
        schedules: Sequence[Mapping[str, Any]] = (),
        seed: int = 0,
        dtype: str = "float32",
        using: Sequence[str] = (),
        setting: Setting | None = None,
        held_out: int = results.HELD_OUT,
        metric: str | None = None,
        evaluate: Evaluate | None = None,
        device: str = "cpu",
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        force: bool = False,
        progress: results.Progress | None = None,
    ) -> results.MergedVersion:
        """Merge versions (reference → weight) by a method of ``adapterbank methods`` and register the result.

        ``rank`` is the output's rank (by default each module's largest input rank), ``{"energy": e}``, ``{"error": e}`` or
        ``"exact"``; the residual of that cut is stored. ``absent`` says what a module counts that an adapter lacks, ``prepare``
        what is done to the adapters first, ``schedules`` gives weights by module. What a method needs beside adapters comes
        from ``using`` (artefacts; by default the newest that fit), is made from ``setting`` (a model and data; at most
        ``held_out`` batches of each task that it holds out judge the merge), or from a ``metric`` of the registry and
        ``evaluate``. The same recipe again gives the same version. Raises UsageError,
        IncompatibleError, NotFoundError.
        """
        from adapterbank.ways.request import Request, drawn_up

        settings = {
            "rank": rank, "options": options, "absent": absent, "prepare": tuple(prepare), "schedules": self._rules(schedules),
            "seed": seed, "dtype": dtype,
        }  # fmt: skip
        request = Request(settings, tuple(using), setting, metric, evaluate, held_out)
        of = drawn_up(self.rooms, method, self._weighted(weights), request, progress)
        entry = register.Entry(name, None, alias, None, tags or {}, {}, note, force)
        return self._registered(of, entry, device, progress, (setting, held_out))

    def merge_recipe(
        self,
        text: str,
        *,
        name: str,
        where: str = "recipe",
        device: str = "cpu",
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        force: bool = False,
        progress: results.Progress | None = None,
    ) -> results.MergedVersion:
        """The merge that a YAML ``text`` says (see :meth:`recipe_text`); ``where`` names it in messages.

        Raises UsageError for what is no recipe, NotFoundError for an input or artefact that is not here, ConflictError for a
        reference that means other content here.
        """
        from adapterbank.ways import lineage

        of = lineage.read(self.rooms, text, where)
        return self._registered(of, register.Entry(name, None, alias, None, tags or {}, {}, note, force), device, progress)

    def merge_again(
        self,
        merge: str,
        *,
        add: Mapping[str, float] | None = None,
        remove: str | None = None,
        name: str | None = None,
        using: Sequence[str] = (),
        setting: Setting | None = None,
        held_out: int = results.HELD_OUT,
        device: str = "cpu",
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        force: bool = False,
        progress: results.Progress | None = None,
    ) -> results.MergedVersion:
        """A merge with one constituent more (``add``: reference → weight) or without one (``remove``), as the next version of
        ``name`` (by default the merge's own).

        A sequential method (``opcm``) goes on from the state of the merge. Raises UsageError unless it is one of the two.
        """
        from adapterbank.ways import request as ways

        found, new, gone = self._found([merge])[0], self._weighted(add or {}), self._found([remove] if remove else [])
        if len(new) + len(gone) != 1:
            raise UsageError("give one adapter to add, or one to remove")
        if new:
            asked = ways.Request({}, tuple(using), setting, batches=held_out)
            of = ways.with_one_more(self.rooms, found, *new[0], asked, progress)
        else:
            of = ways.without_one(self.rooms, found, gone[0])
        entry = register.Entry(name or found.name, None, alias, None, tags or {}, {}, note, force)
        return self._registered(of, entry, device, progress, (setting if new else None, held_out))

    def recipe(self, ref: str) -> Recipe | None:
        """How a merge was made; None for a version registered from files."""
        with self.rooms.catalog.reading() as tx:
            return recipes.get(tx, versions.get(tx, ref))

    def recipe_text(self, ref: str) -> str:
        """The recipe of a merge as YAML: :meth:`merge_recipe` makes the same merge from it. NotFoundError for no merge."""
        from adapterbank.ways import lineage

        return lineage.written(lineage.planned(self.rooms, lineage.recipe_row(self.rooms, self._found([ref])[0])))

    def recipe_digest(self, ref: str) -> str:
        """The digest of a merge's recipe: equal recipes have equal ones. NotFoundError for no merge."""
        from adapterbank.ways import lineage

        return lineage.planned(self.rooms, lineage.recipe_row(self.rooms, self._found([ref])[0])).recipe.digest

    def replay(self, ref: str, *, device: str = "cpu", progress: results.Progress | None = None) -> results.Replay:
        """Run the recipe of a merge again and say whether it gives the same bits, and what changed in the environment.

        From what is stored alone: no data is needed. Raises NotFoundError for an artefact that is gone.
        """
        from adapterbank.ways import merge as ways

        return ways.replay(self.rooms, self._found([ref])[0], device=device, progress=progress)

    def revert(self, ref: str, directory: str | Path) -> results.Reverted:
        """Write the constituents of a merge beside each other under ``directory``."""
        from adapterbank.ways import merge as ways

        return ways.revert(self.rooms, self._found([ref])[0], Path(directory))

    def explain(
        self, refs: str | Mapping[str, float], *, progress: results.Progress | None = None
    ) -> merge_results.Explanation:
        """How the adapters of a merge meet (its reference), or how adapters with weights would: norms, cosines, signs."""
        from adapterbank.ways import explain as ways

        if isinstance(refs, str):
            return ways.explain_merge(self.rooms, self._found([refs])[0], progress=progress)
        return ways.explain_inputs(self.rooms, self._weighted(refs), progress=progress)

    def compare(
        self,
        methods: Sequence[tuple[str, Mapping[str, Any]]],
        weights: Mapping[str, float],
        *,
        evaluate: Evaluate | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: results.Progress | None = None,
    ) -> merge_results.Comparison:
        """Run methods (name, options) on the same adapters and say residual, norm and seconds of each; nothing is stored.

        ``evaluate(directory, refs)`` returns a score by task of the merge in a PEFT directory. ``settings`` are rank, absent,
        prepare, schedules, seed and dtype, as in :meth:`merge`.
        """
        from adapterbank.ways import compare as ways

        told = {**(settings or {}), "schedules": self._rules((settings or {}).get("schedules", ()))}
        chosen = self._weighted(weights)
        return ways.compare(self.rooms, methods, chosen, evaluate=evaluate, settings=told, progress=progress)

    def _weighted(self, weights: Mapping[str, float]) -> list[tuple[Version, float]]:
        """Versions with weights, seen in one state of the catalog."""
        with self.rooms.catalog.reading() as tx:
            return [(versions.get(tx, ref), weight) for ref, weight in weights.items()]

    def _rules(self, schedules: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        """Rules for weights by module; the ``ref`` of one becomes the digest that a recipe names."""
        rules = []
        for rule in schedules:
            own = {key: value for key, value in rule.items() if key != "ref"}
            rules.append({**own, "input": self._found([rule["ref"]])[0].content} if "ref" in rule else own)
        return tuple(rules)

    def _registered(
        self,
        of: Any,
        entry: register.Entry,
        device: str,
        progress: results.Progress | None,
        data: tuple[Setting | None, int] = (None, 0),
    ) -> results.MergedVersion:
        """``data``: a setting, and how many batches of each task that it holds out judge the merge."""
        from adapterbank.ways import merge as ways

        setting, batches = data
        if setting is None:
            return ways.merge_versions(self.rooms, entry, of, device=device, progress=progress)
        from adapterbank.ways.held_out import of_merge

        arranged = setting.arranged([version.ref for version in of.chosen], batches)
        return ways.merge_versions(
            self.rooms, entry, of, device=device, progress=progress,
            judge=lambda planned, merged: of_merge(self.rooms, planned, merged, arranged, progress),
        )  # fmt: skip
