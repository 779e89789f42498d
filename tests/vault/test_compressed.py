"""Small objects at rest: compressed where that halves them, and nobody who puts or reads one can tell."""

import errno
import os
import random
import resource
from functools import reduce
from hashlib import sha256
from operator import xor
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapterbank.errors import IntegrityError, NotFoundError, StorageError
from adapterbank.vault import Stored, Vault, address, compressed, durable
from tests.vault.conftest import damage, fork, grow_old, open_files, wait
from tests.vault.test_damage import assert_never_served
from tests.vault.test_faults import REPAIR, WAYS, CountingOs, put

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "examples" / "minilm" / "adapters").glob("*/adapter_config.json"))
CONFIG = (ROOT / "examples" / "minilm" / "adapters" / "home" / "adapter_config.json").read_bytes()
DIGEST = sha256(CONFIG).hexdigest()
DICTIONARY = ROOT / "adapterbank" / "vault" / "dictionary1.txt"
# CONFIG as it was kept by zstandard 1.5.7 on the day of format 1.
GOLDEN = bytes.fromhex("60ba03050100087b0880c00f5be8424abd50f14a8e2dfc76fd27727955712b9972166455480275")
SETTINGS = {
    "attention": {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"},
    "all linear": {
        "r": 64,
        "lora_alpha": 128,
        "lora_dropout": 0.05,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "use_rslora": True,
    },
    "classifier": {"r": 8, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", "modules_to_save": ["classifier"]},
    "dora": {"r": 8, "lora_alpha": 16, "use_dora": True, "target_modules": "all-linear", "task_type": "CAUSAL_LM"},
}
KiB = 1024
STATUS = Path("/proc/self/statm")


def plain(vault: Vault, digest: str = DIGEST) -> Path:
    return vault.root / "objects" / digest[:2] / digest[2:]


def small(vault: Vault, digest: str = DIGEST) -> Path:
    return vault.root / "objects" / digest[:2] / (digest[2:] + ".z1")


def put_plain(vault: Vault, data: bytes = CONFIG) -> Stored:
    with vault.stage() as staged:
        staged.write(data)
        return vault.keep(staged)


def files(vault: Vault) -> list[Path]:
    return sorted(path for path in vault.root.rglob("*") if path.is_file() and path != vault.lock)


def sealed(frame: bytes) -> bytes:
    """A frame without magic number, and the byte that makes the exclusive or zero."""
    return frame + bytes([reduce(xor, frame)])


def everything(vault: Vault, digest: str, content: bytes) -> None:
    """Each way of reading gives ``content``."""
    assert vault.check(digest) is None and vault.exists(digest)
    assert vault.read(digest) == content
    with vault.open(digest) as mapped:
        assert bytes(mapped.buffer) == content and len(mapped) == len(content)


def test_the_dictionary_is_frozen():
    """Another dictionary would need another suffix: what was kept with this one is read with this one."""
    assert sha256(DICTIONARY.read_bytes()).hexdigest() == "b1b4f175c9e61134743c347a4b49fbace5297c26df16698b4a615e7253a923cc"


def test_what_was_kept_once_is_read(vault: Vault):
    assert DIGEST == "a7d9a98a7d7f837280cfd23fbcc5c0521e023bab426d8aed9f6180194121da59"
    small(vault).parent.mkdir()
    small(vault).write_bytes(GOLDEN)
    everything(vault, DIGEST, CONFIG)
    assert list(vault.digests()) == [DIGEST]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_the_document_alone_is_enough(vault: Vault, path: Path):
    """docs/formats.md: the exclusive or is zero; before the last byte, a frame without its magic number."""
    packed = small(vault, vault.put_bytes(path.read_bytes()).digest).read_bytes()
    dictionary = zstandard.ZstdCompressionDict(DICTIONARY.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    assert reduce(xor, packed) == 0
    frame = b"\x28\xb5\x2f\xfd" + packed[:-1]
    assert zstandard.frame_content_size(frame) == path.stat().st_size
    assert zstandard.ZstdDecompressor(dict_data=dictionary).decompress(frame) == path.read_bytes()


def test_a_configuration_of_the_examples_takes_40_bytes(vault: Vault):
    sizes = [vault.size(vault.put_bytes(path.read_bytes()).digest) for path in CONFIGS]
    assert len(sizes) == 8 and max(sizes) <= 60


@pytest.mark.parametrize("given", SETTINGS.values(), ids=SETTINGS)
def test_what_peft_writes_takes_no_more_than_120_bytes(vault: Vault, tmp_path: Path, given):
    peft = pytest.importorskip("peft")
    peft.LoraConfig(**given, base_model_name_or_path="some-company/Some-Model-13B").save_pretrained(tmp_path / "out")
    data = (tmp_path / "out" / "adapter_config.json").read_bytes()
    digest = vault.put_bytes(data).digest
    assert vault.size(digest) <= 120
    everything(vault, digest, data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode), st.just(CONFIG)), times=st.integers(1, 50)
)
@example(data=b"a", times=64 * KiB)
@example(data=b"a", times=64 * KiB + 1)
def test_what_is_put_comes_back(vault: Vault, data: bytes, times: int):
    content = data * times
    stored = vault.put_bytes(content)
    assert (stored.digest, stored.size) == (sha256(content).hexdigest(), len(content))
    everything(vault, stored.digest, content)
    kept = vault.path(stored.digest)
    assert vault.size(stored.digest) == kept.stat().st_size
    assert 2 * kept.stat().st_size < len(content) if kept.suffix else kept.read_bytes() == content


def test_a_compressed_object_has_one_file_which_is_read_only(vault: Vault):
    for _ in range(2):
        stored = vault.put_bytes(memoryview(CONFIG))
        assert files(vault) == [small(vault)] == [vault.path(DIGEST)]
    assert stored == Stored(DIGEST, len(CONFIG), existed=True)
    status = small(vault).stat()
    assert (status.st_mode & 0o7777, status.st_nlink, status.st_size) == (0o444, 1, vault.size(DIGEST))


@pytest.mark.parametrize("data", [b"", random.Random(4).randbytes(1000), bytes(64 * KiB + 1)], ids=["empty", "noise", "large"])
def test_what_would_gain_little_stays_as_it_is(vault: Vault, data: bytes):
    digest = vault.put_bytes(data).digest
    assert files(vault) == [plain(vault, digest)] and plain(vault, digest).read_bytes() == data


def test_either_form_is_enough(vault: Vault):
    assert not put_plain(vault).existed
    assert vault.put_bytes(CONFIG) == Stored(DIGEST, len(CONFIG), existed=True) and files(vault) == [plain(vault)]
    other = Vault.create(vault.root.parent / "other")
    other.put_bytes(CONFIG)
    assert put_plain(other) == Stored(DIGEST, len(CONFIG), existed=True) and files(other) == [small(other)]


@pytest.fixture
def both(vault: Vault) -> Vault:
    vault.put_bytes(CONFIG)
    packed = small(vault).read_bytes()
    small(vault).unlink()
    put_plain(vault)
    small(vault).write_bytes(packed)
    return vault


def test_with_both_forms_there_is_one_object(both: Vault):
    everything(both, DIGEST, CONFIG)
    assert list(both.digests()) == [DIGEST]
    assert both.size(DIGEST) == sum(path.stat().st_size for path in files(both)) > len(CONFIG)
    grow_old(plain(both), 5000)
    assert both.age(DIGEST) < 5000  # as young as the younger file
    freed = both.size(DIGEST)
    with both.deleting():
        assert (both.delete(DIGEST), both.delete(DIGEST)) == (freed, 0)
    assert files(both) == [] and list(both.digests()) == []


@pytest.mark.parametrize("which", [plain, small])
def test_of_both_forms_an_intact_one_stands_in_for_a_damaged_one(both: Vault, which):
    damage(which(both), b"rotten")
    everything(both, DIGEST, CONFIG)
    assert both.put_bytes(CONFIG).existed
    other = small if which is plain else plain
    damage(other(both), b"rotten")
    assert_never_served(both, DIGEST)
    assert not both.put_bytes(CONFIG).existed
    everything(both, DIGEST, CONFIG)


def test_a_compressed_object_is_deleted_and_missed(vault: Vault):
    vault.put_bytes(CONFIG)
    mapped, size = vault.open(DIGEST), vault.size(DIGEST)
    with vault.deleting():
        assert vault.delete(DIGEST) == size
    assert bytes(mapped.buffer) == CONFIG and files(vault) == []
    assert vault.check(DIGEST).code == "object_missing" and not vault.exists(DIGEST)
    for call in (vault.read, vault.open, vault.size, vault.age):
        with pytest.raises(NotFoundError, match=DIGEST):
            call(DIGEST)


def test_names_that_only_look_alike_are_skipped(vault: Vault):
    digest = vault.put_bytes(CONFIG).digest
    for name in (digest[2:] + ".z2", digest[2:] + ".z1.z1", digest[3:] + ".z1", digest[2:].upper() + ".z1", ".z1"):
        (vault.objects / digest[:2] / name).write_bytes(b"no object")
    assert list(vault.digests()) == [digest]


def test_every_flipped_bit_is_found(vault: Vault):
    """Each of them, also those that only take the same words from another place of the dictionary."""
    vault.put_bytes(CONFIG)
    packed = small(vault).read_bytes()
    for bit in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        damage(small(vault), flipped)
        assert_never_served(vault, DIGEST)


def test_every_cut_and_extension_is_found(vault: Vault):
    vault.put_bytes(CONFIG)
    packed = small(vault).read_bytes()
    for data in [packed[:cut] for cut in range(len(packed))] + [packed + more for more in (b"\0", bytes(9999), packed, CONFIG)]:
        damage(small(vault), data)
        assert_never_served(vault, DIGEST)


@pytest.mark.parametrize("way", ["put_bytes", "keep"])
def test_putting_again_repairs(vault: Vault, way: str):
    vault.put_bytes(CONFIG)
    damage(small(vault), b"rotten")
    stored = vault.put_bytes(CONFIG) if way == "put_bytes" else put_plain(vault)
    assert not stored.existed
    everything(vault, DIGEST, CONFIG)
    assert list(vault.staging.iterdir()) == []


def test_a_damaged_object_that_was_kept_plain_is_repaired_in_its_place(vault: Vault):
    put_plain(vault)
    damage(plain(vault), CONFIG[:-1])
    assert not vault.put_bytes(CONFIG).existed
    assert files(vault) == [plain(vault)] and plain(vault).read_bytes() == CONFIG


def frame_of(content: bytes, **how) -> bytes:
    data = zstandard.ZstdCompressionDict(DICTIONARY.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=data, **how).compress(content)[4:]


HOSTILE = {
    "2^62 bytes": bytes([0xE0]) + (1 << 62).to_bytes(8, "little") + bytes([3, 0, 0]),
    "bomb": frame_of(bytes(1 << 26)),
    "one too many": frame_of(bytes(compressed.LARGEST + 1)),
    "no size": frame_of(CONFIG, write_content_size=False),
    "wrong size": frame_of(CONFIG)[:1] + b"\xff\xff" + frame_of(CONFIG)[3:],
    "huge window": bytes([0x80, 0xFF]) + (100).to_bytes(4, "little") + bytes([3, 0, 0]),
    "other dictionary": zstandard.ZstdCompressor().compress(CONFIG[:-1] + b"]")[4:],
    "two frames": frame_of(CONFIG) + zstandard.FRAME_HEADER + frame_of(CONFIG),
    "nothing": b"",
    "noise": random.Random(8).randbytes(100),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
def test_hostile_frames_are_damage_and_take_no_memory(vault: Vault, frame: bytes):
    def limited() -> None:
        if STATUS.exists():
            used = int(STATUS.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 16 * KiB**2,) * 2)
        assert_never_served(vault, DIGEST)

    small(vault).parent.mkdir()
    small(vault).write_bytes(sealed(frame) if frame else frame)
    assert wait(fork(limited)) == 0


def test_random_bytes_are_damage(vault: Vault):
    small(vault).parent.mkdir()
    rng = random.Random(12)
    for _ in range(300):
        packed = bytearray(frame_of(CONFIG))
        for _ in range(rng.randrange(2, 5)):
            packed[rng.randrange(len(packed))] = rng.randrange(256)
        content = compressed.expand(sealed(packed))
        small(vault).write_bytes(sealed(packed))
        if content == CONFIG:
            assert vault.check(DIGEST) is None
        else:
            assert_never_served(vault, DIGEST)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to(ROOT / "README.md"), Path.mkdir], ids=["pipe", "link", "folder"]
)
def test_what_is_not_a_regular_file_is_neither_followed_nor_waited_for(vault: Vault, make):
    small(vault).parent.mkdir()
    make(small(vault))
    with pytest.raises(IntegrityError, match="not a regular file"):
        vault.read(DIGEST)
    assert_never_served(vault, DIGEST)


@pytest.mark.parametrize("rotten", [False, True], ids=["new", "rotten before"])
def test_each_failing_call_leaves_it_right_or_absent(vault: Vault, monkeypatch, rotten: bool):
    """The calls are those of any other object, and so is what they leave."""

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    expected = REPAIR if rotten else WAYS[put]
    for at in range(1, len(expected) + 1):
        bank = Vault.create(vault.root.parent / str(at))
        if rotten:
            bank.put_bytes(CONFIG)
            damage(small(bank), b"rotten")
        shim = CountingOs(at, fail)
        with monkeypatch.context() as patched:
            patched.setattr(durable, "os", shim)
            with pytest.raises(StorageError):
                bank.put_bytes(CONFIG)
        assert shim.seen == expected[:at] and list(bank.staging.iterdir()) == []
        assert all(bank.check(digest) is None or small(bank).read_bytes() == b"rotten" for digest in bank.digests())
        bank.put_bytes(CONFIG)
        everything(bank, DIGEST, CONFIG)


def test_a_mapping_may_be_written_and_is_not_the_object(vault: Vault):
    vault.put_bytes(CONFIG)
    with vault.open(DIGEST) as mapped:
        mapped.buffer[0] = 0
        view = memoryview(mapped.buffer)
    assert bytes(view[1:]) == CONFIG[1:] and vault.read(DIGEST) == CONFIG


def test_processes_that_put_both_forms_agree(vault: Vault):
    gate, opened = os.pipe()

    def work() -> None:
        os.close(opened)
        os.read(gate, 1)
        with vault.holding():
            (put_plain if os.getpid() % 2 else lambda bank: bank.put_bytes(CONFIG))(vault)
            everything(vault, DIGEST, CONFIG)

    children = [fork(work) for _ in range(8)]
    os.close(gate)
    os.close(opened)
    assert [wait(child) for child in children] == [0] * 8
    assert list(vault.digests()) == [DIGEST] and list(vault.staging.iterdir()) == []


def test_no_descriptor_stays_open(vault: Vault):
    vault.put_bytes(CONFIG)
    before = open_files()
    vault.open(DIGEST).close()
    vault.read(DIGEST)
    damage(small(vault), b"rotten")
    vault.check(DIGEST)
    assert open_files() == before


def test_both_names_follow_from_the_digest(vault: Vault):
    assert address.places(vault.objects, DIGEST) == (plain(vault), small(vault))
