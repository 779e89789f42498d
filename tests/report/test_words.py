"""Numbers and texts as people read them."""

from __future__ import annotations

import pytest

from adapterbank.report.words import error, gist, pairs, safe, share, short, size, when


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_250_000, "1.2 MB"), (3 * 10**9, "3.0 GB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_decimal(count: int, text: str):
    assert size(count) == text


def test_numbers():
    assert (error(0.123456), error(1.5e-7), error(None)) == ("0.123", "1.5e-07", "–")
    assert (share(0.3456), when("2026-11-23T12:00:00.000000Z")) == ("34.6 %", "2026-11-23 12:00")
    assert short("0123456789abcdef") == "sha256:0123456789ab"
    assert pairs({"a": "b", "acc": 0.5}) == "a=b, acc=0.5"


def test_the_gist_is_what_happened_and_the_first_finding():
    assert gist("refused, 2 problems:\n  nan: 3 values\n  unpaired: no B") == "refused, 2 problems: nan: 3 values"
    assert (gist("one line"), gist(None)) == ("one line", "")


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "a\x07b", "line\nbreak", "\u202eright to left"])
def test_safe_text_is_printable(hostile: str):
    assert safe(hostile).isprintable()
    assert safe("ΔW = s·B·A") == "ΔW = s·B·A"
