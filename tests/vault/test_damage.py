"""Bit rot: a damaged object is detected, never served, and repaired by putting it again."""

import os
import random
from pathlib import Path

import pytest

from adapterbank.errors import IntegrityError, StorageError
from adapterbank.vault import Vault
from tests.vault.conftest import damage


def assert_never_served(vault: Vault, digest: str) -> None:
    """The three ways of looking at an object all say that it is damaged."""
    problem = vault.check(digest)
    assert problem is not None
    assert (problem.code, problem.where, problem.severity) == ("object_damaged", digest, "error")
    for look in (vault.read, vault.open):
        with pytest.raises(IntegrityError, match=digest) as caught:
            look(digest)
        assert "adapterbank verify" in caught.value.hint


def test_every_flipped_bit_is_detected(vault: Vault):
    rng = random.Random(11)
    contents = [rng.randbytes(size) for size in (1, 2, 100, 4096, 70_000, 600_000)]
    digests = [vault.put_bytes(data).digest for data in contents]
    assert [vault.check(digest) for digest in digests] == [None] * len(digests)
    for data, digest in zip(contents, digests, strict=True):
        for _ in range(30):
            flipped = bytearray(data)
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            damage(vault.path(digest), flipped)
            assert_never_served(vault, digest)
        damage(vault.path(digest), data)
        assert vault.read(digest) == data


@pytest.mark.parametrize("size", [0, 1, 2500, 4095, 4096, 4999, 5001, 9999])
def test_truncation_and_extension_are_detected(vault: Vault, size: int):
    data = random.Random(5).randbytes(5000)
    digest = vault.put_bytes(data).digest
    damage(vault.path(digest), (data + bytes(5000))[:size])
    assert_never_served(vault, digest)


@pytest.mark.parametrize("way", ["put_bytes", "keep", "keep with digest"])
def test_putting_again_repairs(vault: Vault, way: str):
    digest = vault.put_bytes(b"adapter").digest
    damage(vault.path(digest), b"adaptor")
    if way == "put_bytes":
        stored = vault.put_bytes(b"adapter")
    else:
        with vault.stage() as staged:
            staged.write(b"adapter")
            stored = vault.keep(staged, digest if "digest" in way else None)
    assert not stored.existed
    assert vault.read(digest) == b"adapter"
    assert vault.path(digest).stat().st_mode & 0o7777 == 0o444
    assert list(vault.staging.iterdir()) == []


def make_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(b"adapter")
    path.symlink_to(target)


@pytest.mark.parametrize(
    "make", [make_link, os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["link", "pipe", "broken link"]
)
def test_what_is_not_a_regular_file_is_neither_followed_nor_waited_for(vault: Vault, make):
    digest = vault.put_bytes(b"adapter").digest
    vault.path(digest).unlink()
    make(vault.path(digest))
    assert_never_served(vault, digest)
    assert not vault.put_bytes(b"adapter").existed
    assert vault.path(digest).read_bytes() == b"adapter"
    assert not vault.path(digest).is_symlink()


def test_a_folder_in_the_place_of_an_object_is_told(vault: Vault):
    digest = vault.put_bytes(b"adapter").digest
    vault.path(digest).unlink()
    vault.path(digest).mkdir()
    assert_never_served(vault, digest)
    with pytest.raises(StorageError, match=digest[2:]):
        vault.put_bytes(b"adapter")
    assert list(vault.staging.iterdir()) == []


def test_a_missing_object_is_told_apart(vault: Vault):
    problem = vault.check("ab" * 32)
    assert problem is not None
    assert problem.code == "object_missing"
