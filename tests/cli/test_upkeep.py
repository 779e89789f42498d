"""The bank itself on the command line: init, doctor, upgrade, verify, gc, remove."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run, invoke


def objects(bank: Path) -> list[Path]:
    return sorted(path for path in (bank / "objects").rglob("*") if path.is_file())


def test_init_makes_a_bank_once(tmp_path: Path):
    assert invoke("--bank", tmp_path / "b", "init", "--json").json == {"bank": str(tmp_path / "b"), "created": True}
    assert invoke("--bank", tmp_path / "b", "init", "--json").json["created"] is False
    assert invoke("--bank", tmp_path / "b", "list").out == "no versions\n"


def test_doctor_and_upgrade_of_a_healthy_bank(run: Run, bank: Path):
    told = run("doctor", "--json").json
    assert told["bank"] == str(bank)
    assert {check["status"] for check in told["checks"]} <= {"ok", "warning"}
    upgraded = run("upgrade", "--json").json
    assert upgraded["before"] == upgraded["after"] and upgraded["backup"] is None
    assert "nothing to do" in run("upgrade").out


def test_verify_finds_a_flipped_bit(run: Run, bank: Path):
    sound = run("verify", "--json").json
    assert (sound["problems"], sound["objects"]) == ([], len(objects(bank)))
    assert run("verify", "--sample", 0.2, "--json").json["objects"] < sound["objects"]
    victim = max(objects(bank), key=lambda path: path.stat().st_size)
    rotten = bytearray(victim.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(bytes(rotten))
    found = run("verify", "--json")
    assert (found.code, found.error["code"]) == (5, "integrity")
    assert len(found.json["problems"]) == 1
    assert victim.name in str(found.json["problems"])


def test_verify_of_some_versions_checks_what_they_need(run: Run):
    some, everything = run("verify", "sql@2", "--json").json, run("verify", "--json").json
    assert 0 < some["objects"] < everything["objects"]


def test_remove_refuses_what_is_needed_and_removes_the_rest(run: Run, bank: Path):
    needed = run("remove", "sql@1", "--json")
    assert (needed.code, needed.error["code"]) == (11, "in_use")
    assert "both@1" in str(needed.error["details"])
    before = objects(bank)
    assert run("remove", "both", "--dry-run", "--json").json["objects"] > 0
    assert objects(bank) == before
    removed = run("remove", "both", "--json").json
    assert (removed["refs"], removed["dry_run"]) == (["both@1"], False)
    assert len(objects(bank)) == len(before) - removed["objects"]
    assert run("show", "both").code == 3


def test_references_from_files_and_expressions(run: Run, tmp_path: Path):
    listed = tmp_path / "refs.txt"
    listed.write_text("# to go\nboth   # the merge\n\n")
    assert run("remove", f"@{listed}", "--dry-run", "--json").json["refs"] == ["both@1"]
    assert run("remove", "@-", "--dry-run", "--json", input="both@1\n").json["refs"] == ["both@1"]
    assert run("remove", "--where", "method=average", "--dry-run", "--json").json["refs"] == ["both@1"]
    both = run("remove", "both", "--where", "method=average", "--dry-run", "--json").json
    assert both["refs"] == ["both@1"]
    for words in (("remove",), ("remove", "--where", "rank=99"), ("remove", f"@{tmp_path}/none"), ("remove", f"@{tmp_path}")):
        ran = run(*words, "--json")
        assert (ran.code, ran.error["code"]) == (2, "usage"), words


def test_gc_after_a_dry_run(run: Run, bank: Path):
    from adapterbank.vault.objects import Vault

    stored = Vault(bank).put_bytes(b"nobody refers to this")
    planned = run("gc", "--grace", 0, "--dry-run", "--json").json
    assert planned["objects"] == [{"digest": stored.digest, "bytes": stored.size}]
    assert run("gc", "--json").json["objects"] == []
    assert run("gc", "--grace", 0, "--json").json["objects"] == planned["objects"]
    assert run("gc", "--grace", 0, "--json").json["objects"] == []
    assert run("verify").code == 0
