"""What the demo returns: the keys of ``adapterbank demo --json``. Sizes are bytes, errors relative in ΔW, shares in 0..1."""

from __future__ import annotations

from typing import TypedDict


class SizeOption(TypedDict):
    """One size the basis could have; ``ratio`` counts the basis and all coefficients against the originals.

    ``accuracy`` and ``agreement`` (the share of sentences answered as with the originals) are means over the adapters, or
    None where they were not measured.
    """

    components: int
    bytes: int
    ratio: float
    error_mean: float
    error_worst: float
    accuracy: float | None
    agreement: float | None


class BasisFigures(TypedDict):
    """The basis that was built: ``bytes`` of its own object, ``members_bytes`` of all coefficients together."""

    ref: str
    gauge: str
    components: int
    dtype: str
    bytes: int
    members_bytes: int
    ratio: float
    error_mean: float
    error_worst: float


class CodedFigures(TypedDict):
    """All adapters coded on their own at one quality; ``bytes`` of their objects, ``ratio`` of the originals'."""

    quality: str
    bytes: int
    ratio: float
    bits_per_parameter: float
    error_mean: float
    error_worst: float
    accuracy: float | None
    agreement: float | None


class MergeFigures(TypedDict):
    """One merge of all adapters; ``residual`` is the relative error of the cut to ``rank``."""

    ref: str
    method: str
    options: dict[str, float]
    rank: int
    residual: float
    bytes: int


class AdapterFigures(TypedDict):
    """One adapter. ``exact`` says that ``export`` gave both files back bit for bit.

    ``stored_bytes`` counts its coefficients and its share of the basis. ``accuracy`` has the keys ``original``,
    ``reconstructed``, ``no adapter`` (the same head on the bare encoder) and one for each merge method; ``agreement`` is
    the share of sentences that are answered as with the original. Both are None where accuracies could not be measured.
    """

    name: str
    ref: str
    bytes: int
    parameters: int
    exact: bool
    stored_bytes: int
    bits_per_parameter: float
    stored_bits_per_parameter: float
    error: float
    sentences: int
    accuracy: dict[str, float] | None
    agreement: dict[str, float] | None


class Result(TypedDict):
    """The whole demo. ``bank`` is None for a temporary one, ``options`` has the sizes in each gauge.

    ``not_measured`` says why there are no accuracies; ``mean_accuracy`` and ``mean_agreement`` average the adapters'.
    """

    bank: str | None
    base_model: str
    options: dict[str, list[SizeOption]]
    basis: BasisFigures
    coded: list[CodedFigures]
    merges: list[MergeFigures]
    adapters: list[AdapterFigures]
    mean_accuracy: dict[str, float] | None
    mean_agreement: dict[str, float] | None
    data: str
    not_measured: str | None
    seconds: float
