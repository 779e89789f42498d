"""Many processes on one bank: all succeed, nothing is locked out, no number is given twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import alembic.command  # noqa: F401  (what children need is imported before the fork)
import pytest
import torch

from adapterbank import Bank
from adapterbank.errors import InUseError, NotFoundError
from adapterbank.ways import compact, reconstruct  # noqa: F401
from tests.adapters import write_adapter
from tests.catalog.processes import together

MODULES = {"layer.query": (16, 8)}
OPENERS, WRITERS, READERS, EACH = 16, 8, 4, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forked children must not wait for a thread pool that stayed in the parent
    yield
    torch.set_num_threads(threads)


def adapters(folder: Path, count: int) -> list[Path]:
    return [write_adapter(folder / str(seed), MODULES, rank=2, seed=seed) for seed in range(count)]


def test_sixteen_processes_open_a_new_bank_at_once(tmp_path: Path) -> None:
    sources = adapters(tmp_path / "in", OPENERS)

    def start(number: int) -> None:
        with Bank.open(tmp_path / "bank", create=True) as bank:
            bank.register(sources[number], name=f"a{number}")

    assert together([lambda n=n: start(n) for n in range(OPENERS)]) == ["ok"] * OPENERS
    with Bank.open(tmp_path / "bank") as bank:
        assert len(bank.versions()) == OPENERS
        assert bank.verify().problems == ()


def test_writers_and_readers_with_gc_and_verify(tmp_path: Path) -> None:
    """8 writers, 4 readers, gc without grace and verify: no error, versions 1 to N, each with its own writer's bytes."""
    sources = adapters(tmp_path / "in", WRITERS * EACH)
    place = tmp_path / "bank"
    with Bank.open(place, create=True) as bank:
        bank.register(write_adapter(tmp_path / "first", MODULES, rank=2, seed=999), name="shared", alias="latest")

    def write(number: int) -> None:
        with Bank.open(place) as bank:
            for source in sources[number * EACH : (number + 1) * EACH]:
                done = bank.register(source, name="shared")
                assert done.status == "registered"
                bank.set_alias("shared", "latest", done.version.number)

    def read(number: int) -> None:
        for k in range(2 * EACH):  # opened anew each time: opening and closing have locks of their own
            with Bank.open(place, readonly=True) as bank:
                numbers = [version.number for version in bank.versions(names=["shared"])]
                assert sorted(numbers) == list(range(1, len(numbers) + 1))
                found = bank.find("shared@latest")
                bank.export(found.ref, tmp_path / "out" / f"{number}-{k}")

    def collect() -> None:
        with Bank.open(place) as bank:
            for _ in range(EACH):
                assert bank.gc(grace=0.0).objects == ()

    def verify() -> None:
        with Bank.open(place, readonly=True) as bank:
            for _ in range(EACH):
                assert bank.verify().problems == ()

    jobs = [lambda n=n: write(n) for n in range(WRITERS)] + [lambda n=n: read(n) for n in range(READERS)] + [collect, verify]
    assert together(jobs) == ["ok"] * len(jobs)
    with Bank.open(place) as bank:
        versions = bank.history("shared").versions
        assert [version.number for version in versions] == list(range(1, WRITERS * EACH + 2))
        assert len({version.files for version in versions}) == len(versions)
        assert bank.verify().problems == ()


def test_removal_beside_registration_and_verification(tmp_path: Path) -> None:
    """The same files come and go under several names while others verify: what is there always has its bytes."""
    sources = adapters(tmp_path / "in", 3)
    place = tmp_path / "bank"
    Bank.open(place, create=True).close()

    def churn(number: int) -> None:
        with Bank.open(place) as bank:
            for k in range(2 * EACH):
                version = bank.register(sources[k % 3], name=f"n{number}").version
                bank.export(version.ref, tmp_path / "out" / f"{number}-{k}")
                bank.remove([version.ref])

    def verify() -> None:
        with Bank.open(place, readonly=True) as bank:
            for _ in range(4 * EACH):
                assert bank.verify().problems == ()

    jobs = [lambda n=n: churn(n) for n in range(4)] + [verify, verify]
    assert together(jobs) == ["ok"] * len(jobs)
    with Bank.open(place) as bank:
        assert bank.versions() == []
        bank.gc(grace=0.0)
    assert [path for path in (place / "objects").rglob("*") if path.is_file()] == []


def test_what_is_removed_during_a_verification_is_no_problem(tmp_path: Path) -> None:
    with Bank.open(tmp_path / "bank", create=True) as bank:
        for k, source in enumerate(adapters(tmp_path / "in", 3)):
            bank.register(source, name=f"n{k}")

        def remove_the_rest(done: int, total: int) -> None:
            with Bank.open(tmp_path / "bank") as other:
                if refs := [version.ref for version in other.versions()]:
                    other.remove(refs)

        assert bank.verify(progress=remove_the_rest).problems == ()
        assert bank.versions() == []


def test_compaction_and_removal_of_the_same_versions_at_once(tmp_path: Path) -> None:
    """Whoever comes second finds it done or is told so; nobody does it twice."""
    place, refs = tmp_path / "bank", [f"m{k}@1" for k in range(6)]
    with Bank.open(place, create=True) as bank:
        for k, source in enumerate(adapters(tmp_path / "in", 6)):
            bank.register(source, name=f"m{k}")
        bank.build_basis("b", refs, components=5, gauge="svd", force=True)

    def compact_all() -> None:
        with Bank.open(place) as bank:
            for ref in refs:
                try:
                    bank.compact([ref], level="bounded", drop_exact=True)
                except NotFoundError as told:
                    assert "has no version" in str(told)

    def remove_some() -> None:
        with Bank.open(place) as bank:
            for ref in refs[::2]:
                try:
                    bank.remove([ref])
                except (NotFoundError, InUseError) as told:
                    assert isinstance(told, InUseError) or "has no version" in str(told)

    jobs = [compact_all, compact_all, remove_some, remove_some]
    assert together(jobs) == ["ok"] * len(jobs)
    with Bank.open(place) as bank:
        assert {version.ref: version.level for version in bank.versions()} == dict.fromkeys(refs[1::2], "bounded")
        assert bank.verify().problems == ()
        for ref in refs[1::2]:
            assert bank.reconstruct(ref).modules
    assert list((place / "staging").iterdir()) == []
