"""Damaged objects: IntegrityError for whatever was done to them, never another error, and never much memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator, Mapping
from hashlib import sha256

import pytest

from adapterbank.codecs import exact
from adapterbank.codecs.exact import layout
from adapterbank.errors import IntegrityError
from tests.codecs.exact import made

FIRST = made.adapter("F32", count=400)
FILES = {
    "plain": made.file(
        {
            "a": ("F32", [300], made.normal("F32", 300)),
            "b": ("BF16", [300], made.normal("BF16", 300)),
            "c": ("I64", [40], bytes(320)),
            "d": ("F16", [11], made.specials("F16", 0)),
        }
    ),
    "referring": made.adapter("F32", count=400, seed=3, reference=FIRST, step=0.01),
}
KNOWN = {sha256(FIRST).hexdigest(): FIRST}
OBJECTS = {
    "plain": exact.encode(FILES["plain"]),
    "referring": b"".join(exact.pieces(FILES["referring"], FIRST)),
}


def sealed(data: bytes) -> bytes:
    """``data`` without its seal, sealed anew: what damage would have to look like to come past it."""
    return data[: -layout.SEAL] + sha256(data[: -layout.SEAL]).digest()


def refused(data: bytes, references: Mapping[str, bytes] = KNOWN) -> None:
    with pytest.raises(IntegrityError):
        exact.decode(data, references=references)


def places(data: bytes) -> list[int]:
    """Every byte but those that say which reference is needed: where those differ it is another one, and not there."""
    return [at for at in range(len(data)) if not layout.HEAD.size <= at < layout.HEAD.size + 32]


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        at = rng.choice(places(data))
        yield data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_flipped_bit_of_any_byte_is_found(kind: str):
    data = OBJECTS[kind]
    for at in range(len(data)):
        refused(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_truncation_and_extension_is_found(kind: str):
    data = OBJECTS[kind]
    for cut in [*range(0, 120), *range(120, len(data), 97)]:
        refused(data[:cut])
    for more in (b"\0", data[-32:], data):
        refused(data + more)


@pytest.mark.parametrize("kind", OBJECTS)
def test_damage_that_is_sealed_again_is_found_too(kind: str):
    """Nothing but the SHA-256 of the file is left to tell; a few bits mean nothing (zstandard ignores them)."""
    data, meant = OBJECTS[kind], 0
    for damaged in flips(data[: -layout.SEAL], 1500, seed=len(kind)):
        try:
            assert exact.decode(sealed(damaged + bytes(32)), references=KNOWN) == FILES[kind]
        except IntegrityError:
            meant += 1
    assert meant > 1400


@pytest.mark.parametrize("kind", OBJECTS)
def test_cuts_and_noise_that_are_sealed_again_are_found(kind: str):
    data, rng = OBJECTS[kind], random.Random(9)
    for _ in range(300):
        begin = rng.randrange(layout.HEAD.size + 32, len(data) - 72)
        end = begin + rng.randrange(1, 40)
        refused(sealed(data[:begin] + data[end:]))
        refused(sealed(data[:begin] + rng.randbytes(end - begin) + data[end:]))


def test_a_wrong_reference_is_found():
    needed = next(iter(KNOWN))
    data = OBJECTS["referring"]
    refused(data, {needed: FIRST[:-1] + b"\x55"})
    refused(data, {needed: FIRST + b"\0"})
    refused(data, {needed: b""})


def test_another_file_than_expected_is_told_before_anything_is_decoded():
    with pytest.raises(IntegrityError, match="expected"):
        next(exact.rebuilt(OBJECTS["plain"], expected="0" * 64))


def bomb(raw: int, claimed: int) -> bytes:
    """An object whose one block claims ``raw`` bytes, of a file of ``claimed``; its stream says that it holds 2^40."""
    frame = bytes.fromhex("28b52ffd") + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    payload = b"\x01" + len(frame).to_bytes(4, "little") + frame
    head = layout.HEAD.pack(layout.MAGIC, layout.FORMAT, 0, 1, claimed, bytes(32))
    return sealed(head + layout.BLOCK.pack(0, 1, 0, 0, raw, len(payload)) + payload + bytes(32))


@pytest.mark.parametrize(("raw", "claimed"), [(1 << 20, 1 << 20), (2**32 - 1, 2**32 - 1), (1 << 20, 1 << 60), (8, 8)])
def test_sizes_are_checked_before_memory_is_taken(raw: int, claimed: int):
    data = bomb(raw, claimed)
    tracemalloc.start()
    try:
        refused(data)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
