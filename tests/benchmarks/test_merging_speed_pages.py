"""The tables of what merging costs have a line for each case."""

from benchmarks.harness import Spread
from benchmarks.merging import speed_pages


def row(case, way, count, side, seconds, **more):
    return {"case": case, "way": way, "count": count, "side": side, "seconds": Spread.of([seconds]), "peak_mib": 27.0} | more


def test_a_line_for_each_case():
    beside = {"peft_seconds": 8.0, "faster": 400.0, "peft_peak_mib": 836.0, "over_least": 1.00004}
    rows = [row("against peft", "svd", 4, 4096, 0.02, **beside), row("by count", "svd", 2, 512, 0.5)]
    rows += [row("by count", "ties_svd", 2, 512, 1.5), row("by side", "ties_svd", 4, 1024, 2.5)]
    tables = speed_pages.tables(rows)
    assert tables["merging speed"].splitlines()[2:] == ["| `svd` | 4 | 0.02 | 8 | 400 | 27 | 836 | 1.0000 |"]
    assert tables["merging growth"].splitlines()[2:] == [
        "| 2 | 512×512 | 0.5 s, 27 MiB | 1.5 s, 27 MiB |",
        "| 4 | 1024×1024 |  | 2.5 s, 27 MiB |",
    ]
