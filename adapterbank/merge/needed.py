"""Statistics that a method cannot do without."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.merge.artefacts import Statistics
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.stack import Stack

_CALIBRATE = "adapterbank calibrate {} REF --with FILE.py:FUNCTION"


def needed_statistics(inputs: Inputs, kind: str, method: str) -> Mapping[str, Statistics]:
    """The statistics of that kind by adapter. Raises UsageError that names the adapters without, and how to make them."""
    held = inputs.statistics.get(kind, {})
    lacking = sorted({name[:12] for name in inputs.names if name not in held})
    if lacking:
        adapters = f"adapter{'s' * (len(lacking) > 1)} {', '.join(lacking)}"
        raise UsageError(f"{method} needs the {kind} of every adapter: got none for {adapters}", hint=_CALIBRATE.format(kind))
    return held


def tensors_of(stack: Stack, statistics: Mapping[str, Statistics], shapes: tuple[tuple[int, ...], ...]) -> list[Tensor]:
    """Each adapter's tensor for this module in float64, of one of the ``shapes``.

    Raises UsageError for an adapter whose statistics have nothing for the module, IncompatibleError for another shape.
    """
    found = []
    for name in stack.names:
        own = statistics[name]
        if stack.module not in own.modules:
            raise UsageError(
                f"the {own.kind} of adapter {name[:12]} has nothing for module {stack.module!r}, which another adapter changes",
                hint=f"{_CALIBRATE.format(own.kind)}, all REFs at once, or --absent renormalize",
            )
        tensor = own.of(stack.module)
        if tuple(tensor.shape) not in shapes:
            got = f"{list(tensor.shape)}, expected {' or '.join(str(list(shape)) for shape in shapes)}"
            raise IncompatibleError(f"the {own.kind} of adapter {name[:12]} for module {stack.module!r} is {got}")
        found.append(tensor.double())
    return found
