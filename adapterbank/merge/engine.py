"""LoRA in, LoRA out: run a method over the modules, cut each result to its rank, round once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from adapterbank.errors import PlatformError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import relative
from adapterbank.lora.layout import ModuleShape
from adapterbank.merge.conditions import Conditions
from adapterbank.merge.core import Cut, LowRank, refactor, refactor_to
from adapterbank.merge.determinism import fixed_arithmetic
from adapterbank.merge.inputs import Inputs, common_extras
from adapterbank.merge.least_squares import cut_under
from adapterbank.merge.method import Method, Piece
from adapterbank.merge.options import parse_options
from adapterbank.merge.preparation import finished
from adapterbank.merge.recipe import Rank, check_rank
from adapterbank.merge.registry import find

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """A merge and what the cut to rank k lost.

    ``adapter`` has scaling 1 everywhere; ``rank`` is its largest. ``residual`` is (Σ_m ‖M_m − M_m,k‖² / Σ_m ‖M_m‖²)^½ before
    rounding to the output's dtype, ``module_residuals`` the same quotient per module; ``report`` is the method's own, and
    ``facts`` its numbers per module.
    """

    adapter: Adapter
    residual: float
    module_residuals: Mapping[str, float]
    rank: int
    report: Mapping[str, float | str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def merge(  # noqa: PLR0913 - each is a field of a recipe; all but three are keyword-only
    method: str,
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    *,
    names: Sequence[str],
    rank: Rank = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    conditions: Conditions | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Merged:
    """Merge ``adapters`` by the method of that name into one adapter of the same base model.

    ``names`` are the adapters' content digests: they set the order of summation and key the random streams. ``rank`` is
    the output's in every module: a number; ``{"energy": e}`` or ``{"error": e}``, the least that keeps this share of ‖M‖²
    or stays within this relative error, module by module; ``"exact"``, as many as the pieces have. By default each module
    gets its largest input rank, and a method that keeps its own factors (``cat``, ``linear_factors``) is not cut.
    ``device`` is where it is computed if the method takes adapters only; the result is on the CPU. ``progress`` is called
    with (modules done, modules in all). The same arguments give the same bits in the same environment.

    Raises UsageError (unknown method or option, a bad value, no adapters, a dense merge that is to stay exact),
    IncompatibleError (modules of different shapes, tensors beside the factors that differ, ranks a method cannot join) and
    PlatformError (no such device).
    """
    rank = check_rank(rank)
    chosen = find(method)
    values = parse_options(method, chosen.options, options or {})
    inputs = Inputs.of(adapters, weights, names, seed, conditions, ordered=chosen.ordered, device=_device(device, chosen))
    extras = common_extras(inputs)
    tally = _Tally()
    modules: dict[str, Factors] = {}
    with fixed_arithmetic():
        for done, piece in enumerate(chosen.merge(inputs, **values), start=1):
            shape = inputs.shapes[piece.module]
            piece = _finished(inputs, piece)
            cut = _cut(chosen, piece, rank, shape.rank)
            modules[piece.module] = _rounded(cut.factors, shape, dtype)
            tally.add(piece, cut)
            if progress is not None:
                progress(done, len(inputs.shapes))
    bases = {adapter.base_model for adapter in inputs.adapters}
    merged = Adapter(modules, bases.pop() if len(bases) == 1 else None, extras)
    return Merged(merged, tally.residual, tally.modules, merged.rank, tally.report, tally.facts)


def _finished(inputs: Inputs, piece: Piece) -> Piece:
    if not inputs.conditions.prepare:
        return piece
    return replace(piece, matrix=finished(inputs.original(piece.module), inputs.conditions.prepare, piece.matrix))


def _device(device: str, method: Method) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PlatformError(f"device {device!r} cannot be used: {error}", hint="adapterbank doctor") from error
    return "cpu" if method.needs else device  # artefacts lie in main memory


def _cut(method: Method, piece: Piece, rank: Rank, largest: int) -> Cut:
    """The piece cut as ``rank`` says; by energy or error in the plain norm even where the piece brings its own metric."""
    matrix = piece.matrix
    if rank == "exact" or (rank is None and method.keeps_rank):
        if isinstance(matrix, LowRank):
            return Cut(matrix, 0.0, 0.0)
        if rank == "exact":
            message = f"rank exact: {method.name} gives a dense delta in module {piece.module!r}, which has no factors to keep"
            raise UsageError(message, hint="--rank with a number, an energy or an error")
    if isinstance(rank, Mapping):
        return refactor_to(matrix, rank["energy"] if "energy" in rank else 1.0 - rank["error"] ** 2)
    wanted = rank if isinstance(rank, int) else largest
    if piece.metric is not None and isinstance(matrix, LowRank):
        return cut_under(matrix, piece.metric, wanted)
    return refactor(matrix, wanted, piece.near)


def _rounded(factors: LowRank, shape: ModuleShape, dtype: torch.dtype) -> Factors:
    return Factors(
        A=factors.right.T.to("cpu", dtype).contiguous(),
        B=factors.left.to("cpu", dtype).contiguous(),
        kind=shape.kind,
        kernel=shape.kernel,
    )


class _Tally:
    """Running sums of squares: of the cut, and of each error that the method reports."""

    def __init__(self) -> None:
        self.modules: dict[str, float] = {}
        self.facts: dict[str, Mapping[str, float]] = {}
        self._sums: dict[str, tuple[float, float]] = {"": (0.0, 0.0)}

    def add(self, piece: Piece, cut: Cut) -> None:
        self.modules[piece.module] = relative(cut.squared_error, cut.squared_norm)
        if piece.facts:
            self.facts[piece.module] = dict(piece.facts)
        for name, (error, norm) in {**piece.errors, "": (cut.squared_error, cut.squared_norm)}.items():
            errors, norms = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (errors + error, norms + norm)

    @property
    def residual(self) -> float:
        return relative(*self._sums[""])

    @property
    def report(self) -> dict[str, float | str]:
        return {name: relative(*sums) for name, sums in self._sums.items() if name}
