"""calibrate: what a merge needs from data is computed once, stored, and then named by its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from adapterbank.calibration.held_out import HeldOut
from adapterbank.calibration.procedures import Procedure, find, making
from adapterbank.calibration.tasks import Setting
from adapterbank.catalog.rows import Artefact, Version
from adapterbank.errors import UsageError
from adapterbank.merge.artefacts import Artefact as Value
from adapterbank.merge.artefacts import Coefficients, Statistics
from adapterbank.merge.options import parse_options
from adapterbank.merge.registry import find as find_method
from adapterbank.ways import artefacts, held_out
from adapterbank.ways.joinable import each_once, plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.results import HELD_OUT, Calibrated, Progress
from adapterbank.ways.rooms import Rooms


def calibrate(  # noqa: PLR0913 - all but four are keyword-only
    rooms: Rooms,
    procedure: str,
    chosen: Sequence[Version],
    setting: Setting,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batches: int = HELD_OUT,
    for_merge: bool = False,
    progress: Progress | None = None,
) -> Calibrated:
    """Run ``procedure`` on ``chosen`` with the user's model and tasks, and store what it makes; the same again is kept once.

    It is judged by at most ``batches`` batches of each task that is held out; statistics ``for_merge`` are not: that merge is.
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
    arranged, names = setting.arranged([version.ref for version in chosen], batches), [version.content for version in chosen]
    with ExitStack() as stack:
        adapters = [stack.enter_context(load(rooms, version)).adapter for version in chosen]
        made = found.calibrate(arranged, adapters, names, seed, progress, **values)
        judged = None
        if found.makes == artefacts.COEFFICIENTS or not for_merge:
            judged = held_out.of_calibration(found, arranged, adapters, names, made, values, progress)
        kept = tuple(_keep(rooms, found, each, chosen) for each in _telling(made, judged))
    return Calibrated(kept, judged)


def for_method(
    rooms: Rooms,
    method: str,
    chosen: Sequence[Version],
    setting: Setting,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batches: int = HELD_OUT,
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
        given: dict[str, Any] = {"seed": seed, "batches": batches, "progress": progress}
        found = calibrate(rooms, procedure.name, chosen, setting, options=own, for_merge=True, **given)
        made += found if procedure.makes != artefacts.COEFFICIENTS else found[:1]
    if not made:
        raise UsageError(f"{method} takes no data", hint="adapterbank methods shows what each method needs")
    return tuple(made)


def _telling(made: Sequence[Value], judged: HeldOut | None) -> list[Value]:
    """Coefficients with how they were judged in their story, each by its place among the points; statistics as they are."""
    story = None if judged is None else asdict(judged)
    return [
        replace(each, about={**each.about, "held_out": story, "number": number}) if isinstance(each, Coefficients) else each
        for number, each in enumerate(made, start=1)
    ]


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
