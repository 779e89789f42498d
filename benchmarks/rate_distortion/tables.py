"""What was measured as Markdown tables, for the terminal and for the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from benchmarks.harness import Target
from benchmarks.rate_distortion.curves import against_all, best_rival, not_below
from benchmarks.rate_distortion.goals import at_error, follower_savings, most_saved, savings
from benchmarks.rate_distortion.measured import Measured
from benchmarks.rate_distortion.once import Once
from benchmarks.rate_distortion.plan import ERRORS
from benchmarks.rate_distortion.points import OURS, Point

_NONE = "–"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sizes(measured: Measured) -> str:
    """Fewest bits per parameter at which each method reaches an error: its own settings, nothing in between."""
    rows = [[method, *_reached(points)] for method, points in _by_method(measured.points)]
    bounds = {bound.error: bound for bound in measured.bounds}
    held = [f"{bounds[error].each:.3f}" if error in bounds else _NONE for error in ERRORS]
    rows.append(["Gaussian Shannon bound", *held])
    return markdown(["mean error at most", *(f"{error:g}" for error in ERRORS)], rows)


def distance(measured: Measured) -> str:
    """This coder's bits beside the bound, which is for singular values known and independent Gaussian vectors."""
    rows = []
    for bound in measured.bounds:
        point = at_error(measured, bound.error)
        if point is not None:
            values = (point.bits, coded_bits(point, measured), bound.each, bound.one_slope)
            above = coded_bits(point, measured) / bound.each - 1.0
            rows.append([f"{bound.error:g}", *(f"{value:.3f}" for value in values), f"{above:+.1%}"])
    return markdown(["error", "everything", "coded objects", "bound", "bound, one slope for all", "objects over bound"], rows)


def rates(found: Sequence[Measured]) -> str:
    """BD-rates for every collection with rivals."""
    rows = []
    for measured in found:
        against = against_all(measured.points)
        best = best_rival(against)
        if best is not None:
            any_of_them = f"{against['any']:+.1%}" if "any" in against else _NONE
            rows.append([measured.family.title, best[0], f"{best[1]:+.1%}", any_of_them, str(len(not_below(measured.points)))])
    return markdown(["collection", "best rival", "BD-rate", "BD-rate against all", "points not below"], rows)


def unbeaten(found: Sequence[Measured]) -> str:
    """Every point of a rival that is not above ours."""
    rows = [
        [one.rival.family, one.rival.label, f"{one.rival.error_mean:.3f}", f"{one.rival.bits:.3f}",
         _NONE if one.ours is None else f"{one.ours:.3f}"]
        for measured in found for one in not_below(measured.points)
    ]  # fmt: skip
    return markdown(["collection", "rival", "error", "its bits", "ours"], rows) if rows else "None."


def accuracy(measured: Measured) -> str:
    """Accuracy against bits, largest first, with the error in ΔW and on real inputs."""
    labels = {point.label for point in measured.points}
    without = {label: mean(of.values()) for label, of in measured.accuracies.items() if label not in labels}
    rows = [[label, _NONE, _NONE, _NONE, f"{100 * share:.1f}"] for label, share in without.items()]
    known = [point for point in measured.points if point.accuracy is not None]
    for point in sorted(known, key=lambda p: (p.method not in OURS, -p.bits)):
        seen = _NONE if point.output_error is None else f"{point.output_error:.3f}"
        rows.append([point.label, f"{point.bits:.3f}", f"{point.error_mean:.3f}", seen, f"{100 * (point.accuracy or 0):.1f}"])
    return markdown(["form", "bits", "error in ΔW", "error on inputs", "mean accuracy, %"], rows)


def shared(found: Sequence[Measured]) -> str:
    """Bytes saved by coding a collection through the bank, against every adapter alone."""
    rows = []
    for measured in found:
        followers = follower_savings(measured) if measured.family.parents else {}
        most = most_saved(measured)
        for error, share in savings(measured).items():
            follower = f"{followers[error]:+.1%}" if error in followers else _NONE
            bound = f"{most[error]:+.1%}" if error in most else _NONE
            rows.append([measured.family.title, f"{error:g}", f"{share:+.1%}", follower, bound])
    head = ["collection", "error", "saved, everything counted", "saved on all versions but the first", "by Shannon at most"]
    return markdown(head, rows)


def targets(judged: Sequence[Target]) -> str:
    """Every target, what was measured, and whether it is reached."""
    rows = [
        [goal.what, f"{goal.measured:.4g}", f"{'≥' if goal.at_least else '≤'} {goal.limit:.4g}",
         "reached" if goal.met else "**missed**"]
        for goal in judged
    ]  # fmt: skip
    return markdown(["target", "measured", "limit", "verdict"], rows)


def once(found: Once) -> str:
    """What is measured once: speed, the lossless level, a whole bank."""
    rows, speed, bank = [], found.speed, found.bank
    if speed is not None:
        large = f"{speed.large_parameters / 1e6:.0f} M parameters"
        rows += [
            ["eight adapters encoded, all cores", f"{speed.eight_encode:.1f} s at {speed.eight_bits:.2f} bits"],
            ["one of them decoded", f"{speed.decode.text(1000.0, 0)} ms"],
            [f"{large} encoded", f"{speed.large_encode:.0f} s at {speed.large_bits:.2f} bits"],
            [f"{large} decoded", f"{speed.large_decode:.1f} s"],
            ["memory beyond the adapter while it is encoded", f"{speed.peak_gib:.2f} GiB"],
        ]
    for one in found.lossless:
        rows.append([f"lossless, {one.files} files of {one.family} as {one.dtype}", f"{one.ratio:.3f} of the bytes"])
    if bank is not None:
        weighed = f"{bank.on_disk / 1e6:.1f} MB, counted {bank.counted / 1e6:.1f} MB ({bank.excess:+.2%}), weighed {bank.date}"
        rows.append([f"a bank of {bank.adapters} adapters", weighed])
    return markdown(["what", "measured"], rows) if rows else "Not measured."


def coded_bits(point: Point, measured: Measured) -> float:
    """Bits per parameter of the coded objects alone, without configurations and module errors."""
    return 8 * sum(point.sizes) / measured.family.parameters


def _by_method(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    methods = dict.fromkeys(point.method for point in points)
    ours_first = sorted(methods, key=lambda method: method not in OURS)
    return [(method, [point for point in points if point.method == method]) for method in ours_first]


def _reached(points: Sequence[Point]) -> list[str]:
    cells = []
    for error in ERRORS:
        fitting = [point.bits for point in points if point.error_mean <= error]
        cells.append(f"{min(fitting):.3f}" if fitting else _NONE)
    return cells
