"""What may go and what may not: remove, basis remove, gc and verify through the façade."""

from __future__ import annotations

import os
import time

import pytest

from adapterbank.errors import InUseError, NotFoundError, UsageError
from tests.bank.state import objects, state

NAMES = ["sql", "math", "law"]


@pytest.fixture
def three(bank, add):
    folders = {name: add(name, seed=seed, rank=6) for seed, name in enumerate(NAMES)}
    bank.build_basis("b", NAMES, components=1, force=True)
    return folders


def kept_by(bank):
    """Every digest that a row of the bank names."""
    found = {digest for version in bank.versions() for digest in (version.config, version.weights)}
    for basis in bank.bases():
        found |= {basis.object, *(member.object for member in bank.members(basis.ref))}
    return found


def test_a_version_goes_with_its_members_and_nothing_else(bank, place, three):
    own = {bank.find("sql").weights, bank.find("sql").config, bank.forms("sql")[0].object} - {bank.find("law").config}
    before = objects(place)
    done = bank.remove(["sql"])
    assert (done.refs, done.objects) == (("sql@1",), len(own)) and before - objects(place) == own
    assert objects(place) == kept_by(bank) and [member.version for member in bank.members("b")] == ["law@1", "math@1"]
    with pytest.raises(NotFoundError):
        bank.find("sql")
    assert bank.verify().problems == ()


def test_bytes_reported_are_bytes_freed(bank, place, three, add):
    add("more", seed=9)
    sizes = {digest: bank.rooms.vault.size(digest) for digest in objects(place)}
    done = bank.remove(["sql", "more", "sql@1"])
    gone = set(sizes) - objects(place)
    assert done.refs == ("sql@1", "more@1")
    assert (done.objects, done.bytes) == (len(gone), sum(sizes[digest] for digest in gone))  # also of what lay compressed


def test_everything_removed_leaves_nothing(bank, place, three):
    bank.merge("average", dict.fromkeys(NAMES, 1.0), name="m")
    bank.remove_basis("b")
    bank.remove(["m", *NAMES])
    assert objects(place) == set() and bank.versions() == [] and bank.bases() == []
    assert bank.gc(grace=0.0).objects == ()


def test_refusals_list_the_dependents_and_change_nothing(bank, place, three):
    bank.merge("average", {"sql": 1.0, "math": 1.0}, name="m")
    bank.set_alias("law", "prod", 1)
    before = state(place)
    for refs, needed in [(["sql"], "version m@1"), (["law"], "alias law@prod"), (["m", "law"], "alias law@prod")]:
        with pytest.raises(InUseError, match=needed) as refused:
            bank.remove(refs)
        assert [edge["dependent"] for edge in refused.value.details] == [needed] and refused.value.hint
    assert state(place) == before
    assert set(bank.remove(["sql", "math", "m"]).refs) == {"sql@1", "math@1", "m@1"}


def test_a_basis_that_stands_for_a_version_stays(bank, place, three):
    bank.compact(["sql", "law"], drop_exact=True)
    before = state(place)
    with pytest.raises(InUseError, match=r"version sql@1.*version law@1|version law@1.*version sql@1"):
        bank.remove_basis("b")
    assert state(place) == before
    bank.remove(["sql"])
    with pytest.raises(InUseError, match=r"version law@1"):
        bank.remove_basis("b")
    bank.remove(["law"])
    assert bank.remove_basis("b").refs == ("b@1",) and objects(place) == kept_by(bank)


def test_the_base_of_other_bases_is_not_touched(bank, place, three):
    bank.build_basis("twin", NAMES, components=1, force=True)  # the same objects
    before = objects(place)
    bank.remove_basis("b")
    assert objects(place) == before and bank.verify().problems == ()
    assert bank.reconstruct("sql").modules


@pytest.mark.parametrize("what", ["version", "basis", "gc", "alias"])
def test_dry_runs_change_nothing(bank, place, three, what):
    bank.set_alias("sql", "prod", 1)
    bank.rooms.vault.put_bytes(b"nobody's")
    before = state(place)
    doing = {
        "version": lambda: bank.remove(["math"], dry_run=True),
        "basis": lambda: bank.remove_basis("b", dry_run=True),
        "gc": lambda: bank.gc(dry_run=True, grace=0.0),
        "alias": lambda: bank.remove_alias("sql", "prod", dry_run=True),
    }[what]
    told = doing()
    assert state(place) == before
    if what == "version":
        done = bank.remove(["math"])
    elif what == "basis":
        done = bank.remove_basis("b")
    elif what == "gc":
        done = bank.gc(grace=0.0)
    else:
        return
    assert told.dry_run and not done.dry_run
    assert (told.objects, told.bytes) == (done.objects, done.bytes)


def test_a_dry_run_refuses_what_the_run_would(bank, three):
    bank.compact(["sql"], drop_exact=True)
    with pytest.raises(InUseError):
        bank.remove_basis("b", dry_run=True)


def test_garbage_waits_for_its_grace_and_what_is_needed_never_goes(bank, place, three):
    stray = bank.rooms.vault.put_bytes(b"put, and then its process was killed").digest
    needed = kept_by(bank)
    assert bank.gc(grace=3600.0).objects == () and stray in objects(place)
    path = place / "objects" / stray[:2] / stray[2:]
    os.utime(path, (time.time() - 7200,) * 2)
    assert bank.gc(dry_run=True).objects == ((stray, 36),)
    assert bank.gc().objects == ((stray, 36),) and objects(place) == needed


def test_verify_finds_what_rots_and_says_where(bank, place, three):
    assert bank.verify().problems == ()
    digest = bank.forms("math")[0].object
    path = place / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-2] + b"\x13\x37")
    whole = bank.verify()
    assert len(whole.problems) == 1 and whole.objects == len(objects(place))
    assert digest in f"{whole.problems[0].where} {whole.problems[0].message}"
    assert len(bank.verify(["math"]).problems) == 1 and bank.verify(["sql"]).problems == ()
    path.unlink()
    assert len(bank.verify().problems) == 1


def test_a_sample_is_checked_against_its_digests_too(bank, three):
    whole = bank.verify()
    assert bank.verify(sample=0.4).objects == round(0.4 * whole.objects) and bank.verify(sample=1.0).objects == whole.objects
    for sample in (0.0, -1.0, 2.0):
        with pytest.raises(UsageError, match="sample"):
            bank.verify(sample=sample)


def test_registering_the_files_again_heals_their_object(bank, place, three):
    digest = bank.find("sql").weights
    path = place / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    assert bank.verify(["sql"]).problems
    assert bank.register(three["sql"], name="sql").status == "unchanged"
    assert bank.verify().problems == ()
