"""What a figure of a merge is taken from, and what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterbank.calibration.record import Progress
from adapterbank.calibration.tasks import Setting
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.inputs import Inputs


@dataclass(frozen=True, slots=True)
class Score:
    """A figure of a merge over all tasks, and by task where it has a meaning there."""

    value: float
    tasks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A ``setting`` whose tasks, in the order of the ``inputs``' adapters, judge merges of them. ``result`` is the merge that
    was learned, before any cut; ``options`` are those of the calibration and the method. ``progress`` is told of what takes
    long before the first figure, as the calibrations tell it."""

    setting: Setting
    inputs: Inputs
    result: Adapter
    options: Mapping[str, Any]
    progress: Progress | None = None


Measure = Callable[[Adapter], Mapping[str, Score]]
