"""What a coded adapter shall reach: a size, an error, or a step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite

from adapterbank.errors import UsageError


@dataclass(frozen=True, slots=True)
class Target:
    """Exactly one of: ``bits``, at most so many per LoRA parameter, every byte of the object counted; ``max_error``, the
    largest relative ΔW error of the whole adapter, (Σ‖ΔW − ΔŴ‖² / Σ‖ΔW‖²)^½; ``step``, the quantizer's own, relative to the
    root mean square of the singular vectors' entries scaled by their singular values."""

    bits: float | None = None
    max_error: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) != 1:
            raise UsageError(f"give exactly one of bits, max_error, step; got {', '.join(given) or 'none'}")
        ((name, value),) = given.items()
        if not (isfinite(value) and value > 0):
            raise UsageError(f"{name}: got {value!r}, expected a positive number")
