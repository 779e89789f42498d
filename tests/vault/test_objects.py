"""Laws of the vault: what is put comes back, under its digest, once, read-only."""

import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterbank.errors import NotFoundError, StorageError, UsageError
from adapterbank.vault import Stored, Vault
from tests.vault.conftest import grow_old, open_files

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABSENT = "ab" * 32
HOSTILE = (
    "", "ab", "AB" * 32, "ab" * 31, "ab" * 33, "../" + "ab" * 31, "ab/" + "../" * 20 + "a", "ab" * 32 + "\n", "\0" + "ab" * 31,
    "sha256:" + "ab" * 32, " " + "ab" * 31 + "a", "\u0661" * 64, "g" * 64, "/etc/passwd", "~" * 64, "ab" * 31 + "..",
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=5000))
def test_what_is_put_comes_back_under_its_sha256(vault: Vault, data: bytes):
    stored = vault.put_bytes(data)
    assert stored.digest == hashlib.sha256(data).hexdigest()
    assert stored.size == len(data) == vault.size(stored.digest)
    assert vault.read(stored.digest) == data
    with vault.open(stored.digest) as mapped:
        assert bytes(mapped.buffer) == data
        assert len(mapped) == len(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_put_takes_any_bytes(vault: Vault, kind):
    assert vault.read(vault.put_bytes(kind(b"factors")).digest) == b"factors"


def test_the_layout_on_disk_is_two_digits_then_the_rest(vault: Vault):
    vault.put_bytes(b"")
    assert vault.path(EMPTY) == vault.root / "objects" / EMPTY[:2] / EMPTY[2:]
    assert [str(p.relative_to(vault.root)) for p in vault.root.rglob("*") if p.is_file()] == [
        f"objects/{EMPTY[:2]}/{EMPTY[2:]}"
    ]


def test_objects_are_read_only_and_have_one_name(vault: Vault):
    path = vault.path(vault.put_bytes(b"adapter").digest)
    assert path.stat().st_mode & 0o7777 == 0o444
    assert path.stat().st_nlink == 1


def test_putting_twice_changes_nothing(vault: Vault):
    first = vault.put_bytes(b"adapter")
    before = vault.path(first.digest).stat()
    second = vault.put_bytes(b"adapter")
    with vault.stage() as staged:
        staged.write(b"adapter")
        third = vault.keep(staged)
    after = vault.path(first.digest).stat()
    assert (first.existed, second.existed, third.existed) == (False, True, True)
    assert second == third == Stored(first.digest, 7, existed=True)
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (after.st_ino, after.st_mtime_ns, after.st_ctime_ns)
    assert list(vault.staging.iterdir()) == []


def test_digests_are_all_objects_and_nothing_else(vault: Vault):
    put = {vault.put_bytes(bytes([i])).digest for i in range(20)}
    (vault.objects / "ab").mkdir(exist_ok=True)
    (vault.objects / "ab" / "notes.txt").write_text("not an object")
    (vault.objects / "README").write_text("neither")
    assert list(vault.digests()) == sorted(put)


def test_a_folder_that_is_no_bank_is_told(tmp_path: Path):
    vault = Vault(tmp_path)
    for call in (lambda: vault.put_bytes(b"adapter"), lambda: list(vault.digests()), lambda: vault.sweep_staging(60)):
        with pytest.raises(StorageError, match="No such file") as caught:
            call()
        assert "adapterbank doctor" in caught.value.hint
    assert not vault.exists(ABSENT)


def test_creating_again_keeps_the_objects(vault: Vault):
    digest = vault.put_bytes(b"adapter").digest
    assert Vault.create(vault.root) == vault
    assert vault.read(digest) == b"adapter"


@pytest.mark.parametrize("call", ["open", "read", "size", "age"])
def test_an_absent_object_is_not_found(vault: Vault, call: str):
    assert not vault.exists(ABSENT)
    with pytest.raises(NotFoundError, match=ABSENT):
        getattr(vault, call)(ABSENT)


@pytest.mark.parametrize("digest", HOSTILE)
def test_only_a_digest_becomes_a_path(vault: Vault, digest: str):
    with vault.deleting():
        for call in (vault.path, vault.open, vault.read, vault.size, vault.age, vault.exists, vault.check, vault.delete):
            with pytest.raises(UsageError, match="64 lower-case hex digits"):
                call(digest)
    with vault.stage() as staged, pytest.raises(UsageError, match="64 lower-case hex digits"):
        vault.keep(staged, digest or "x")
    assert list(vault.digests()) == []


def test_age_counts_from_the_write(vault: Vault):
    digest = vault.put_bytes(b"adapter").digest
    young = vault.age(digest)
    grow_old(vault.path(digest), 5000)
    assert 0 <= young < 5000 <= vault.age(digest)


def test_a_mapping_may_be_written_and_the_object_stays(vault: Vault):
    digest = vault.put_bytes(b"adapter").digest
    with vault.open(digest) as mapped:
        mapped.buffer[0] = 0
    assert vault.read(digest) == b"adapter"


def test_closing_a_mapping_that_is_looked_at_leaves_the_view_alive(vault: Vault):
    mapped = vault.open(vault.put_bytes(b"adapter").digest)
    view = memoryview(mapped.buffer)
    mapped.close()
    assert bytes(view) == b"adapter"


def test_a_tensor_outlives_its_mapping(vault: Vault):
    """``torch.frombuffer`` holds no view of its buffer; a mapping closed under it would end the process."""
    torch = pytest.importorskip("torch")
    mapped = vault.open(vault.put_bytes(b"adapter" * 10_000).digest)
    tensor = torch.frombuffer(mapped.buffer, dtype=torch.uint8)
    mapped.close()
    assert bytes(tensor[-7:].tolist()) == b"adapter"


def test_deleting_frees_the_bytes_once(vault: Vault):
    kept, gone = vault.put_bytes(b"kept").digest, vault.put_bytes(b"adapter").digest
    mapped = vault.open(gone)
    with vault.deleting():
        assert vault.delete(gone) == 7
        assert vault.delete(gone) == 0
    assert list(vault.digests()) == [kept]
    assert bytes(mapped.buffer) == b"adapter"  # whoever reads it may finish


def test_deleting_needs_the_lock(vault: Vault):
    digest = vault.put_bytes(b"adapter").digest
    with vault.holding(), pytest.raises(UsageError, match="deleting"):
        vault.delete(digest)
    assert vault.read(digest) == b"adapter"


def tree(root: Path) -> list[tuple[str, int, int]]:
    """Every path below ``root`` with its inode and times."""
    return sorted((str(p), p.lstat().st_ino, p.lstat().st_mtime_ns) for p in [root, *root.rglob("*")])


def test_a_read_only_vault_writes_nothing(vault: Vault):
    digest = vault.put_bytes(b"adapter").digest
    (vault.staging / "1-a.tmp").write_bytes(b"litter")
    grow_old(vault.staging / "1-a.tmp")
    reader = Vault(vault.root, readonly=True)
    before = tree(vault.root)
    with reader.holding():
        assert reader.read(digest) == b"adapter"
        assert reader.check(digest) is None
        assert len(reader.sweep_staging(0, dry_run=True)) == 1
    for call in (reader.deleting, reader.stage, lambda: reader.put_bytes(b"new"), lambda: reader.put_bytes(b"adapter"),
                 lambda: reader.delete(digest), lambda: reader.sweep_staging(0)):  # fmt: skip
        with pytest.raises(StorageError, match="read-only"):
            call()
    assert tree(vault.root) == before


def test_no_descriptor_stays_open(vault: Vault):
    def everything() -> None:
        digest = vault.put_bytes(b"adapter").digest
        vault.open(digest).close()
        vault.read(digest)
        vault.check(ABSENT)
        with vault.stage() as staged, suppress(StorageError):
            staged.map(10)
            vault.keep(staged)
        with vault.deleting():
            vault.delete(digest)

    everything()
    before = open_files()
    everything()
    assert open_files() == before


def test_the_vault_imports_neither_torch_nor_sqlalchemy():
    code = "import sys, adapterbank.vault; print({'torch', 'numpy', 'sqlalchemy', 'click', 'peft'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
