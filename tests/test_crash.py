"""SIGKILL at random moments: nothing acknowledged is lost or undone, and no row is left without a good object."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from adapterbank import Bank
from adapterbank.errors import AdapterBankError
from adapterbank.ways.register import files_digest
from tests.adapters import write_adapter

KILLS, KILLED_FIRST_STARTS, EACH = 500, 20, 25
MODULES = {"layer.query": (16, 8), "layer.value": (16, 8)}
IN_MEMORY = Path("/dev/shm")
JOBS = ["register", "register", "alias", "remove", "compact", "exact", "original", "restore", "gc"]

Tell = Callable[..., None]


class Ledger:
    """What the bank may hold: for every fact the values that are possible, only one after an acknowledgement."""

    def __init__(self, bank: Bank) -> None:
        self.possible = {fact: {value} for fact, value in facts(bank).items()}
        self.done = 0

    def hear(self, fact: str, value: object, *, sure: bool) -> None:
        known = self.possible.get(fact, {None, value})
        assert not sure or value in known, f"{fact}: acknowledged as {value}, could only be {known}"
        self.possible[fact] = {value} if sure else known | {value}
        self.done += sure

    def check(self, bank: Bank) -> None:
        found = facts(bank)
        wrong = {fact: (found.get(fact), values) for fact, values in self.possible.items() if found.get(fact) not in values}
        assert wrong == {}
        assert bank.verify().problems == ()


def facts(bank: Bank) -> dict[str, object]:
    """What versions, at which levels, and where their aliases point."""
    found: dict[str, object] = {f"alias {alias.name}": alias.version for alias in bank.list_aliases()}
    for version in bank.versions():
        found |= {f"files {version.ref}": version.files, f"level {version.ref}": version.level}
    return found


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
        for job in JOBS:  # what the jobs import is imported before the first fork
            run(job, bank, directories, random.Random(0), lambda *_, **__: None)
    return directories


def work(root: Path, directories: list[Path], seed: int, tell: Tell) -> None:
    """One doomed process: random jobs until it is killed; tells what may change before each and what is after it."""
    rng = random.Random(seed)
    with Bank.open(root / "bank") as bank:
        while True:
            try:
                run(rng.choice(JOBS), bank, directories, rng, tell)
            except AdapterBankError as error:
                assert error.code in ("in_use", "not_found", "bounded_only"), error


def run(job: str, bank: Bank, directories: list[Path], rng: random.Random, tell: Tell) -> None:
    member = rng.randrange(8)
    ref = f"member{member}@1"
    if job == "register":
        version = bank.register(rng.choice(directories), name=f"n{rng.randrange(6)}").version
        tell(f"files {version.ref}", version.files, sure=True)
    elif job == "alias":
        version = rng.choice(bank.versions())
        tell(f"alias {version.name}", version.number, sure=False)
        bank.set_alias(version.name, "prod", version.number)
        tell(f"alias {version.name}", version.number, sure=True)
    elif job == "compact":
        tell(f"level {ref}", "bounded", sure=False)
        bank.compact([ref], level="bounded", drop_exact=True)
        tell(f"level {ref}", "bounded", sure=True)
    elif job in ("exact", "original"):
        if bank.find(ref).level != "bounded":
            tell(f"level {ref}", job, sure=False)
            assert bank.compact([ref], level=job).kept == ()
            tell(f"level {ref}", job, sure=True)
    elif job == "restore":
        level = "exact" if bank.find(ref).level == "exact" else "original"  # what is coded well stays coded
        tell(f"level {ref}", level, sure=False)
        bank.register(directories[member], name=f"member{member}")
        tell(f"level {ref}", level, sure=True)
    elif job == "gc":
        bank.gc(grace=rng.choice([0.0, 3600.0]))
    elif removable := [version for version in bank.versions() if version.name.startswith("n") and not version.aliases]:
        version = rng.choice(removable)
        tell(f"files {version.ref}", version.files, sure=True)  # seen, though whoever committed it may have told nobody
        tell(f"files {version.ref}", None, sure=False)
        bank.remove([version.ref])
        tell(f"files {version.ref}", None, sure=True)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder in memory where there is such: a killed process loses nothing that it wrote, so no disk is needed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forked children must not wait for a thread pool that stayed in the parent
    with TemporaryDirectory(dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)
    torch.set_num_threads(threads)


def test_five_hundred_kills_lose_nothing(root: Path) -> None:
    directories = prepare(root)
    rng = random.Random(20251015)
    with Bank.open(root / "bank") as bank:
        ledger = Ledger(bank)
    for kill in range(1, KILLS + 1):
        wait_for, seconds = rng.choice([0, 1, 2, 3]), rng.uniform(0.0, 0.02)
        for said in doomed(lambda tell, seed=kill: work(root, directories, seed, tell), wait_for, seconds):
            ledger.hear(**said)
        if kill % EACH == 0:
            with Bank.open(root / "bank") as bank:
                ledger.check(bank)
    assert ledger.done > KILLS // 2, "the children hardly came to work: this would show nothing"
    with Bank.open(root / "bank") as bank:
        assert_all_bytes_come_back(bank, root / "out")
        bank.gc(grace=0.0)
        ledger.check(bank)


def test_a_killed_first_start_is_made_good(tmp_path: Path) -> None:
    rng = random.Random(1)
    for kill in range(KILLED_FIRST_STARTS):
        place = tmp_path / str(kill % 4)  # some first starts are killed several times

        def start(tell: Tell, place: Path = place) -> None:
            tell("started", None, sure=False)
            with Bank.open(place, create=True):
                tell("opened", None, sure=False)
                signal.pause()

        doomed(start, 1, rng.uniform(0.0, 0.15))
    source = write_adapter(tmp_path / "in", MODULES)
    for place in sorted(tmp_path.glob("[0-3]")):
        with Bank.open(place, create=True) as bank:
            bank.register(source, name="a")
            assert bank.verify().problems == ()


def doomed(job: Callable[[Tell], None], lines: int, seconds: float) -> list[dict[str, object]]:
    """Fork ``job``, kill it ``seconds`` after it told ``lines`` lines, and return the whole lines that it told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            job(lambda fact, value, *, sure: _say(writer, {"fact": fact, "value": value, "sure": sure}))
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as told:
        heard = [told.readline() for _ in range(lines)]
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        heard += told.readlines()
    assert status == -signal.SIGKILL, "the child failed before it was killed"
    return [json.loads(line) for line in heard if line.endswith("\n")]


def _say(pipe: int, said: dict[str, object]) -> None:
    os.write(pipe, (json.dumps(said) + "\n").encode())


def assert_all_bytes_come_back(bank: Bank, out: Path) -> None:
    for version in bank.versions():
        exported = bank.export(version.ref, out / version.ref, bounded=True)
        assert exported.exact == (version.level != "bounded")
        names = ("adapter_config.json", "adapter_model.safetensors")
        digests = [sha256((out / version.ref / name).read_bytes()).hexdigest() for name in names]
        assert not exported.exact or files_digest(*digests) == version.files
