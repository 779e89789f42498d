"""Several processes at one vault."""

import os
import random
import threading
from pathlib import Path

import pytest

from adapterbank.errors import BusyError
from adapterbank.vault import Vault
from tests.vault.conftest import damage, fork, wait

DATA = random.Random(2).randbytes(1_000_000)


@pytest.mark.parametrize("rotten", [False, True], ids=["new", "rotten before"])
def test_processes_that_put_the_same_object_agree(vault: Vault, tmp_path: Path, rotten: bool):
    if rotten:
        damage(vault.path(vault.put_bytes(DATA).digest), DATA[:-1])
    gate, opened = os.pipe()
    answers = tmp_path / "answers"

    def work() -> None:
        os.close(opened)
        os.read(gate, 1)  # returns when the parent closes its end: all start at once
        with vault.holding():
            stored = vault.put_bytes(DATA)
            assert vault.read(stored.digest) == DATA
        answers.with_name(f"answer-{os.getpid()}").write_text(str(stored.existed))

    children = [fork(work) for _ in range(8)]
    os.close(gate)
    os.close(opened)
    assert [wait(child) for child in children] == [0] * 8
    new = [path.read_text() for path in tmp_path.glob("answer-*")].count("False")
    assert new >= 1 if rotten else new == 1  # each that saw it rotten may repair it; a new one is linked once
    assert len(list(vault.digests())) == 1
    assert list(vault.staging.iterdir()) == []


def test_processes_that_create_the_same_bank_all_succeed(tmp_path: Path):
    root = tmp_path / "deep" / "bank"
    gate, opened = os.pipe()

    def work() -> None:
        os.close(opened)
        os.read(gate, 1)
        vault = Vault.create(root)
        with vault.holding():
            vault.put_bytes(DATA[: os.getpid() % 100])

    children = [fork(work) for _ in range(16)]
    os.close(gate)
    os.close(opened)
    assert [wait(child) for child in children] == [0] * 16
    vault = Vault(root)
    assert all(vault.check(digest) is None for digest in vault.digests())


def test_deletion_gives_up_while_somebody_holds(vault: Vault):
    impatient = Vault(vault.root, timeout=0.01)
    with vault.holding():
        with pytest.raises(BusyError, match=r"objects\.lock"), impatient.deleting():
            pytest.fail("deleted under a holder")
        with impatient.holding():  # holders do not disturb each other
            pass
    with impatient.deleting(), pytest.raises(BusyError), impatient.holding():
        pytest.fail("held during a deletion")


def test_deletion_waits_for_all_holders(vault: Vault):
    digest = vault.put_bytes(DATA).digest
    events: list[str] = []

    def delete() -> None:
        with vault.deleting():
            events.append("deleted")
            vault.delete(digest)

    with vault.holding():
        with vault.holding():
            deleter = threading.Thread(target=delete)
            deleter.start()
        assert vault.read(digest) == DATA
        events.append("released")
    deleter.join()
    assert events == ["released", "deleted"]
    assert not vault.exists(digest)
