"""The table of calibration procedures: one line each; command line options and documentation follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapterbank.calibration import adamerging, fisher, frank_wolfe, gram, merged_gram, natural_niches, pareto, rank_masks
from adapterbank.errors import UsageError
from adapterbank.merge.artefacts import Artefact
from adapterbank.merge.options import Option, did_you_mean, options_of

COEFFICIENTS = "coefficients"


@dataclass(frozen=True, slots=True)
class Procedure:
    """A row of the table.

    ``calibrate(setting, adapters, names, seed, progress, **options)`` returns artefacts; its keyword-only arguments are the
    options. ``makes`` is what a method names in its ``needs``: a kind of statistics, or ``coefficients``.
    """

    name: str
    calibrate: Callable[..., tuple[Artefact, ...]]
    makes: str
    summary: str
    source: str

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that :attr:`calibrate` declares."""
        return options_of(self.calibrate)


def _coefficients(name: str, calibrate: Callable[..., tuple[Artefact, ...]], summary: str, source: str) -> Procedure:
    return Procedure(name, calibrate, COEFFICIENTS, summary, source)


_ROWS = (
    Procedure("gram", gram.gram, gram.KIND, "Gram matrices of the inputs of every module", "arXiv 2212.09849"),
    Procedure(
        "gram_merged", merged_gram.gram_merged, merged_gram.KIND, "the same behind the layers merged so far", "arXiv 2508.03121"
    ),
    Procedure("fisher", fisher.fisher, fisher.KIND, "diagonal Fisher information of every weight", "arXiv 2111.09832"),
    _coefficients("adamerging", adamerging.adamerging, "those of least entropy, by gradient", "arXiv 2310.02575"),
    _coefficients("frank_wolfe", frank_wolfe.frank_wolfe, "a walk in the hull of the adapters", "arXiv 2503.12649"),
    _coefficients("map", pareto.pareto, "a front of trade-offs between the tasks", "arXiv 2406.07529"),
    _coefficients("m2n2", natural_niches.natural_niches, "an archive evolved in natural niches", "arXiv 2508.16204"),
    _coefficients(
        "dam_rank_masks", rank_masks.rank_masks, "with masks of rank units, safe against triggers", "arXiv 2410.13910"
    ),
)
PROCEDURES: Mapping[str, Procedure] = {procedure.name: procedure for procedure in _ROWS}


def find(name: str) -> Procedure:
    """The procedure ``name``. Raises UsageError that lists what exists."""
    if name not in PROCEDURES:
        hint = "calibrations: " + ", ".join(PROCEDURES)
        raise UsageError(f"unknown calibration {name!r}{did_you_mean(name, PROCEDURES)}", hint=hint)
    return PROCEDURES[name]


def making(need: str, method: str) -> Procedure | None:
    """The procedure that makes what a merge method needs: for coefficients the one of the method's own name. None if nothing
    is made from data for it."""
    if need == COEFFICIENTS:
        return PROCEDURES.get(method)
    return PROCEDURES.get(need)
