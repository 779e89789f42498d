"""calibrate: what a merge needs from data is computed once, stored, and then named by its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from adapterbank.calibration.procedures import Procedure, find, making
from adapterbank.calibration.tasks import Setting
from adapterbank.catalog.rows import Artefact, Version
from adapterbank.errors import UsageError
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.options import parse_options
from adapterbank.merge.registry import find as find_method
from adapterbank.ways import artefacts
from adapterbank.ways.joinable import each_once, plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms


def calibrate(
    rooms: Rooms,
    procedure: str,
    chosen: Sequence[Version],
    setting: Setting,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Artefact, ...]:
    """Run ``procedure`` on ``chosen`` with the user's model and tasks, and store what it makes; the same again is kept once.

    Raises UsageError (unknown procedure or option, a task that is missing), IncompatibleError (adapters that do not fit each
    other or the model).
    """
    if not isinstance(setting, Setting):
        raise UsageError(f"got {type(setting).__name__}, expected adapterbank.calibration.tasks.Setting: a model and tasks")
    each_once(chosen, "a calibration")
    same_base_model(chosen)
    plain_lora(chosen)
    found = find(procedure)
    values = parse_options(procedure, found.options, options or {})
    arranged = setting.arranged([version.ref for version in chosen])
    with ExitStack() as stack:
        adapters = [stack.enter_context(load(rooms, version)).adapter for version in chosen]
        made = found.calibrate(arranged, adapters, [version.content for version in chosen], seed, progress, **values)
        return tuple(_keep(rooms, found, each, chosen) for each in made)


def for_method(
    rooms: Rooms,
    method: str,
    chosen: Sequence[Version],
    setting: Setting,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Artefact, ...]:
    """What ``method`` needs, computed and stored; of ``options`` (the merge's) each procedure takes those that it knows.

    Raises UsageError for a method that needs no data.
    """
    procedures = [making(need, method) for need in find_method(method).needs]
    made: list[Artefact] = []
    _known(method, [each for each in procedures if each is not None], options or {})
    for procedure in (each for each in procedures if each is not None):
        known = {option.name for option in procedure.options}
        own = {name: value for name, value in (options or {}).items() if name in known}
        found = calibrate(rooms, procedure.name, chosen, setting, options=own, seed=seed, progress=progress)
        made += found if procedure.makes != artefacts.COEFFICIENTS else found[:1]
    if not made:
        raise UsageError(f"{method} takes no data", hint="adapterbank methods shows what each method needs")
    return tuple(made)


def _known(method: str, procedures: Sequence[Procedure], options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that neither the method nor its calibration has."""
    known = [option.name for option in find_method(method).options]
    known += [option.name for procedure in procedures for option in procedure.options if option.name not in known]
    unknown = [name for name in options if name not in known]
    if unknown:
        hint = "options of both: " + (", ".join(known) or "none")
        raise UsageError(f"{method} and its calibration have no option {unknown[0]!r}", hint=hint)


def _keep(rooms: Rooms, procedure: Procedure, made: Any, chosen: Sequence[Version]) -> Artefact:
    return artefacts.keep(rooms, made, chosen, made.kind if isinstance(made, Statistics) else procedure.name)
