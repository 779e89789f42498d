"""The targets, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

from benchmarks.harness import Target
from benchmarks.rate_distortion.accuracies import ORIGINAL
from benchmarks.rate_distortion.curves import not_below
from benchmarks.rate_distortion.measured import Measured
from benchmarks.rate_distortion.once import Once
from benchmarks.rate_distortion.plan import ERRORS, LIMITS
from benchmarks.rate_distortion.points import ALONE, TOGETHER, Point
from benchmarks.rate_distortion.speed import Speed

_UNRELATED = ("r16", "clinc")
_TASKS = 8  # of which the accuracies that were promised are means
_LOSSLESS = {"float32": 0.84, "bfloat16": 0.68}


def goals(found: Sequence[Measured], once: Once) -> list[Target]:
    """Every target that what was measured allows to judge."""
    by_name = {one.family.name: one for one in found}
    judged = [
        Target(f"{one.family.name}: targets that were not reached", len(one.unreached), 0) for one in found if one.unreached
    ]
    judged += [*_sizes(by_name), *_rivals(found), *_sharing(by_name), *_chains(found), *_accuracy(by_name)]
    judged += [Target(f"lossless, {one.family} as {one.dtype}", one.ratio, _LOSSLESS[one.dtype]) for one in once.lossless]
    return judged + (_speed(once.speed) if once.speed else []) + ([once.bank.target] if once.bank else [])


def saving(measured: Measured, setting: str) -> float | None:
    """The share of bytes that the collection saves against every adapter alone at one target."""
    at = {point.method: point.bits for point in measured.points if point.setting == setting}
    return 1.0 - at[TOGETHER] / at[ALONE] if {ALONE, TOGETHER} <= set(at) else None


def savings(measured: Measured) -> dict[float, float]:
    """:func:`saving` by wanted error."""
    wanted = {point.setting for point in measured.points if point.setting.startswith("error ")}
    found = {float(setting.removeprefix("error ")): saving(measured, setting) for setting in wanted}
    return {error: share for error, share in sorted(found.items(), reverse=True) if share is not None}


def follower_savings(measured: Measured) -> dict[float, float]:
    """The same for the objects of all versions but the first, which has nothing to be coded against."""
    sizes = {(point.method, point.setting): sum(point.sizes[1:]) for point in measured.points if point.sizes}
    return {error: 1.0 - sizes[TOGETHER, f"error {error:g}"] / sizes[ALONE, f"error {error:g}"] for error in savings(measured)}


def most_saved(measured: Measured) -> dict[float, float]:
    """What :func:`follower_savings` could be at most, by the Gaussian Shannon bound given the version before."""
    alone = {point.setting: 8 * sum(point.sizes[1:]) for point in measured.points if point.method == ALONE}
    bits = {error: alone[f"error {error:g}"] for error in measured.version_bits if f"error {error:g}" in alone}
    return {error: 1.0 - measured.version_bits[error] / own for error, own in bits.items()}


def at_error(measured: Measured, error: float) -> Point | None:
    """This coder's point for a wanted error, every adapter alone."""
    wanted = f"error {error:g}"
    return next((point for point in measured.points if point.method == ALONE and point.setting == wanted), None)


def _sizes(by_name: Mapping[str, Measured]) -> Iterator[Target]:
    for name in _UNRELATED:
        for error, limit in zip(ERRORS, LIMITS, strict=True):
            point = at_error(by_name[name], error) if name in by_name else None
            if point is not None:
                yield Target(f"{name}: bits at a mean error of at most {error:g}", point.bits, limit)


def _rivals(found: Sequence[Measured]) -> Iterator[Target]:
    for measured in found:
        if measured.has_rivals:
            yield Target(f"{measured.family.name}: rivals' points that are not above ours", len(not_below(measured.points)), 0)


def _sharing(by_name: Mapping[str, Measured]) -> Iterator[Target]:
    shared = savings(by_name["r16_sharedinit"]) if "r16_sharedinit" in by_name else {}
    for error, share in shared.items():
        limit = 0.08 if error <= 0.15 else 0.0
        yield Target(f"shared initial A: bytes saved at error {error:g}", share, limit, at_least=True)
    if "null" in by_name:
        for error, share in savings(by_name["null"]).items():
            yield Target(f"random null: bytes saved or lost at error {error:g}", abs(share), 0.005)
    if "copies" in by_name:
        yield from _copies(by_name["copies"])


def _copies(measured: Measured) -> Iterator[Target]:
    """All adapters of this collection have one ΔW, so they should have one size and one error."""
    for point in measured.points:
        if point.method == ALONE:
            for what, values in (("sizes", point.sizes), ("errors", point.errors)):
                spread = max(values) / min(values) - 1.0
                yield Target(f"re-gauged copies: {what} at {point.setting} differ by", spread, 0.01)


def _chains(found: Sequence[Measured]) -> Iterator[Target]:
    for measured in found:
        if measured.family.parents is not None:
            for error, share in follower_savings(measured).items():
                what = f"{measured.family.title}: bytes of a version saved at error {error:g}"
                yield Target(what, share, 0.5, at_least=True)


def _accuracy(by_name: Mapping[str, Measured]) -> Iterator[Target]:
    measured = by_name.get("r16")
    if measured is None or len(measured.accuracies.get(ORIGINAL, {})) < _TASKS:
        return
    original = mean(measured.accuracies[ORIGINAL].values())
    for bits, least in ((0.22, original - 0.003), (0.06, 0.83)):
        fitting = [p.accuracy for p in measured.points if p.method == ALONE and p.accuracy is not None and p.bits <= bits]
        if fitting:
            yield Target(f"r16: mean accuracy at {bits:g} bits", max(fitting), round(least, 4), at_least=True)


def _speed(speed: Speed) -> list[Target]:
    return [
        Target("seconds to encode eight adapters", speed.eight_encode, 30.0),
        Target("seconds to decode one", speed.decode.median, 0.150),
        Target(f"seconds to encode {speed.large_parameters / 1e6:.0f} M parameters", speed.large_encode, 240.0),
        Target(f"seconds to decode {speed.large_parameters / 1e6:.0f} M parameters", speed.large_decode, 5.0),
        Target("GiB beyond the adapter while encoding it", speed.peak_gib, 2.0),
    ]
