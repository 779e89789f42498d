"""tables.json: the probabilities and points of every coded adapter of format 1."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

import adapterbank.codecs
from adapterbank.codecs import tabulate
from adapterbank.codecs.tables import FINE, HIGHEST, LOWEST, REGULAR

TEXT = (Path(adapterbank.codecs.__file__).parent / "tables.json").read_bytes()
TABLES = json.loads(TEXT)
FREQUENCIES: list[list[int]] = TABLES["frequencies"]
SHIFTS: list[list[int]] = TABLES["shifts"]


def test_they_are_part_of_the_format_and_never_change():
    assert sha256(TEXT).hexdigest() == "18ecdd6280820e0110c8784ba908c981a1efebfc8d537affe60adb7fb68f17f1"


def test_there_are_two_rows_for_every_class():
    assert len(FREQUENCIES) == len(SHIFTS) == 2 * (HIGHEST - LOWEST + 1)


@pytest.mark.parametrize("row", range(len(FREQUENCIES)))
def test_every_row_sums_to_one_and_forbids_nothing(row: int):
    counts, twin = FREQUENCIES[row], FREQUENCIES[row ^ 1]
    assert sum(counts) == 1 << 14
    assert min(counts) >= 1
    assert len(counts) == len(twin) and (len(counts) - 2) % 2 == 0 and 2 <= len(counts) - 2 <= REGULAR


@pytest.mark.parametrize("row", range(len(SHIFTS)))
def test_points_keep_their_order(row: int):
    """A shift moves a point by less than Δ; zero stays zero."""
    assert SHIFTS[row][0] == 0
    assert len(SHIFTS[row]) <= REGULAR
    assert all(abs(shift) < FINE for shift in SHIFTS[row])


@pytest.mark.parametrize("c", [3])
def test_the_program_that_made_them_makes_them_again(c: int):
    """To a few counts: the simulation is in float32."""
    frequencies, shifts = tabulate._class_rows(c)
    for q in (0, 1):
        stored, moved = FREQUENCIES[2 * (c - LOWEST) + q], SHIFTS[2 * (c - LOWEST) + q]
        assert len(frequencies[q]) == len(stored)
        assert max(abs(a - b) for a, b in zip(frequencies[q], stored, strict=True)) <= 16
        assert max(abs(a - b) for a, b in zip(shifts[q], moved, strict=True)) <= 2
