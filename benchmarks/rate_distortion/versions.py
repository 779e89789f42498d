"""What a version needs at least, given the decoded version before: the Gaussian Shannon bound in the gauge of that version.

The new ΔW is laid out on the components of the one before; what their vectors then differ by has independent Gaussian entries
whose variances are known and free, ½·log₂(σ²/D) bits each where σ² > D, and what is beyond the components is bounded as without
a reference. It is a bound for this model and this gauge, not for every coder.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from adapterbank.codecs import decoder, refinement
from adapterbank.codecs.coder import encode
from adapterbank.codecs.prediction import Known
from adapterbank.codecs.spectrum import Spectrum, spectra
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter
from benchmarks.rate_distortion.families import Family

_STEPS = 60

Module = tuple[Spectrum, Known]


def least_bits(family: Family, error: float) -> float:
    """Bits that all versions of ``family`` but the first need together, each brought to ``error`` and given the one before at
    this error too."""
    return sum(bits_given(before, version, error) for before, version in pairwise(family.adapters.values()))


def bits_given(before: Adapter, version: Adapter, error: float) -> float:
    """Bits that ``version`` needs at ``error``, given ``before`` as it is decoded at ``error``."""
    known = decoder.parts(encode(before, Target(max_error=error), effort=0).data).modules
    own = dict(zip(version.modules, spectra(version), strict=True))
    modules = [(spectrum, refinement.known(spectrum, known[name].components)) for name, spectrum in own.items()]
    energy = sum(spectrum.energy for spectrum in own.values())
    low, high = 1e-9 * sqrt(energy), sqrt(energy)
    for _ in range(_STEPS):
        middle = sqrt(low * high)
        low, high = (middle, high) if _at(modules, middle)[0] <= error**2 * energy else (low, middle)
    return _at(modules, low)[1]


def _at(modules: Sequence[Module], step: float) -> tuple[float, float]:
    """Squared error and bits at the slope that belongs to ``step``."""
    shapes = [(known, spectrum.U.shape[1], spectrum.V.shape[1]) for spectrum, known in modules]
    figures = [refinement.promised(known, d_out, d_in, step) for known, d_out, d_in in shapes]
    return sum(lost for lost, _ in figures), sum(bits for _, bits in figures)
