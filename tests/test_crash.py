"""SIGKILL at random moments: nothing acknowledged is lost, and no row is left without a good object."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from adapterbank import Bank
from adapterbank.errors import AdapterBankError
from tests.adapters import write_adapter

KILLS = 500
MODULES = {"layer.query": (16, 8), "layer.value": (16, 8)}


def prepare(root: Path) -> list[Path]:
    """A bank with a basis whose members may be compacted, and directories to register."""
    directories = []
    for seed in range(24):
        directories.append(root / "in" / f"a{seed}")
        write_adapter(directories[-1], MODULES, rank=2, alpha=4, seed=seed, base_model="tiny")
    with Bank.open(root / "bank", create=True) as bank:
        for seed in range(8):
            bank.register(directories[seed], name=f"member{seed}")
        bank.build_basis("b", [f"member{seed}" for seed in range(8)], components=7, gauge="svd", force=True)
    return directories


def work(root: Path, directories: list[Path], seed: int, pipe: int) -> None:
    """One doomed process: random jobs, each acknowledged after it returned (a removal also announced before it)."""
    rng = random.Random(seed)

    def tell(**said: object) -> None:
        os.write(pipe, (json.dumps(said) + "\n").encode())

    with Bank.open(root / "bank") as bank:
        while True:
            try:
                run(bank, directories, rng, tell)
            except AdapterBankError as error:
                tell(refused=error.code)


def run(bank: Bank, directories: list[Path], rng: random.Random, tell: Callable[..., None]) -> None:
    job = rng.choice(["register", "register", "alias", "remove", "compact", "gc"])
    if job == "register":
        done = bank.register(rng.choice(directories), name=f"n{rng.randrange(6)}")
        tell(done=job, ref=done.version.ref, files=done.version.files)
    elif job == "gc":
        bank.gc(grace=rng.choice([0.0, 3600.0]))
        tell(done=job)
    elif job == "compact":
        bank.compact([f"member{rng.randrange(8)}"], level="bounded", drop_exact=True)
        tell(done=job)
    elif job == "alias":
        version = rng.choice(bank.versions())
        bank.set_alias(version.name, "prod", version.number)
        tell(done=job)
    elif removable := [version.ref for version in bank.versions() if version.name.startswith("n")]:
        ref = rng.choice(removable)
        tell(removing=ref)
        bank.remove([ref])
        tell(done=job)


@pytest.fixture
def bank_root(tmp_path: Path) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forked children must not wait for a thread pool that stayed in the parent
    yield tmp_path
    torch.set_num_threads(threads)


def test_five_hundred_kills_lose_nothing(bank_root: Path) -> None:
    directories = prepare(bank_root)
    rng = random.Random(20251015)
    registered: dict[str, str] = {}
    may_be_gone: set[str] = set()
    done = 0
    for kill in range(KILLS):
        for said in doomed(bank_root, directories, kill, rng.uniform(0.002, 0.08)):
            done += "done" in said
            if said.get("done") == "register":
                registered[str(said["ref"])] = str(said["files"])
            may_be_gone |= {str(said["removing"])} if "removing" in said else set()
    assert done > KILLS // 2, "the children hardly came to work: this would show nothing"
    check(bank_root, registered, may_be_gone)


def doomed(root: Path, directories: list[Path], seed: int, seconds: float) -> list[dict[str, object]]:
    """Fork a worker, kill it after ``seconds``, and return the whole lines that it told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            work(root, directories, seed, writer)
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        lines = told.read().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def check(root: Path, registered: dict[str, str], may_be_gone: set[str]) -> None:
    with Bank.open(root / "bank") as bank:
        assert bank.verify().problems == ()
        there = {version.ref: version for version in bank.versions()}
        assert [ref for ref in registered if ref not in there and ref not in may_be_gone] == []
        assert all(there[ref].files == files for ref, files in registered.items() if ref in there)
        for number, version in enumerate(there.values()):
            exported = bank.export(version.ref, root / "out" / str(number), bounded=True)
            assert exported.exact == (version.level != "bounded")
        bank.gc(grace=0.0)
        assert bank.verify().problems == ()
