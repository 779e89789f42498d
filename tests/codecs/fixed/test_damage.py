"""Damaged and forged objects: IntegrityError, nothing else."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank import container
from adapterbank.codecs import fixed
from adapterbank.codecs.fixed import sealed
from adapterbank.codecs.target import Target
from adapterbank.errors import IntegrityError

from .made import adapter


@cache
def whole() -> bytes:
    return fixed.encode(adapter(), Target(max_error=0.5)).data


def forged(**changes: Any) -> bytes:
    """The object with some arrays replaced (None: left out) and sealed again."""
    _, found = container.read(bytearray(whole()))
    named = {name: tensor for name, tensor in {**found, **changes}.items() if tensor is not None}
    return sealed.written(named, {"kind": "fixed", "format": 1})


def with_table(change: Any) -> bytes:
    _, found = container.read(bytearray(whole()))
    table = json.loads(zstandard.decompress(found["layout"].numpy().tobytes()))
    text = json.dumps(change(table)).encode()
    return forged(layout=torch.frombuffer(bytearray(zstandard.compress(text)), dtype=torch.uint8))


def test_every_flipped_bit_is_noticed() -> None:
    data = bytearray(whole())
    for place in range(len(data)):
        for bit in (1 << (place % 8), 128 >> (place % 8)):
            data[place] ^= bit
            with pytest.raises(IntegrityError):
                fixed.read(data)
            data[place] ^= bit
    fixed.read(data)


def test_every_truncation_is_noticed() -> None:
    for length in range(0, len(whole()), 3):
        with pytest.raises(IntegrityError):
            fixed.decode(whole()[:length])
    with pytest.raises(IntegrityError):
        fixed.decode(whole() + b"\0")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        fixed.decode(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_damage_under_a_digest_that_was_not_checked_raises_nothing_else(
    changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(whole())
    limit = data.draw(st.sampled_from([len(damaged), 700]))  # often in the header and the table
    for place, byte in changes:
        damaged[place % limit] = byte
    with suppress(IntegrityError):
        fixed.read(damaged, check=False).adapter()


def test_resealing_what_was_read_gives_the_same_bytes() -> None:
    assert forged() == whole()


@pytest.mark.parametrize(
    "changes",
    [
        {"words": None},
        {"words": torch.zeros(3, dtype=torch.int32)},
        {"words": torch.zeros(3)},
        {"scales": torch.zeros(2, 1, dtype=torch.bfloat16)},
        {"widths": torch.zeros(2, 1, dtype=torch.uint8)},
        {"layout": torch.zeros(4, dtype=torch.uint8)},
        {"layout": torch.frombuffer(bytearray(zstandard.compress(b"[" * 100_000)), dtype=torch.uint8)},
    ],
)
def test_forged_arrays_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        fixed.decode(forged(**changes))


@pytest.mark.parametrize("width", [0, 9, 255])
def test_a_forged_width_is_refused(width: int) -> None:
    widths = fixed.read(bytearray(whole())).widths.clone()
    widths[0, 0] = width
    with pytest.raises(IntegrityError, match="width"):
        fixed.decode(forged(widths=widths))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_forged_scale_is_refused(scale: float) -> None:
    scales = fixed.read(bytearray(whole())).scales.clone()
    scales[1, 0] = scale
    with pytest.raises(IntegrityError, match="scale"):
        fixed.decode(forged(scales=scales))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: [],
        lambda t: {"names": t["names"]},
        lambda t: t | {"names": t["names"][:-1]},
        lambda t: t | {"names": t["names"][::-1]},
        lambda t: t | {"names": [t["names"][0]] * len(t["names"])},
        lambda t: t | {"names": [[]] * len(t["names"])},
        lambda t: t | {"modules": [[*m[:3], m[3] + 1, *m[4:]] for m in t["modules"]]},
        lambda t: t | {"modules": [[10**12, *m[1:]] for m in t["modules"]]},
        lambda t: t | {"modules": [[True, *m[1:]] for m in t["modules"]]},
        lambda t: t | {"modules": [[-1, *m[1:]] for m in t["modules"]]},
        lambda t: t | {"modules": [[1.5, *m[1:]] for m in t["modules"]]},
        lambda t: t | {"modules": [m[:-1] for m in t["modules"]]},
        lambda t: t | {"modules": [[*m[:-1], None] for m in t["modules"]]},
        lambda t: t | {"modules": 7},
    ],
)
def test_a_forged_table_is_refused(change: Any) -> None:
    with pytest.raises(IntegrityError):
        fixed.decode(with_table(change))


def test_another_kind_or_format_is_refused() -> None:
    _, found = container.read(bytearray(whole()))
    for metadata in ({"kind": "rmm.basis", "format": 1}, {"kind": "fixed", "format": 2}, {}):
        with pytest.raises(IntegrityError, match="expected 'fixed'"):
            fixed.decode(sealed.written(found, metadata))
