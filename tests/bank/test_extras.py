"""What is no LoRA factor (saved heads, biases, rows of new tokens) travels verbatim beside the matrix, bit for bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from adapterbank.errors import IncompatibleError
from tests.adapters import write_adapter
from tests.bank.variants import PREFIX, beside, with_extras

NAMES = ("sql", "math", "law")


def bits(tensors):
    return {key: (t.dtype, tuple(t.shape), t.contiguous().reshape(-1).view(torch.uint8).tolist()) for key, t in tensors.items()}


def beside_factors(folder):
    return bits({k: t for k, t in load_file(folder / "adapter_model.safetensors").items() if "lora_" not in k})


@pytest.fixture
def three(bank, make):
    """Adapters with extras that differ in their values; law has some of odd types, and no head."""
    folders = {name: make(name, seed=seed) for seed, name in enumerate(NAMES)}
    for seed, name in enumerate(NAMES[:2]):
        with_extras(folders[name], seed=seed, dtype=(torch.float32, torch.float16)[seed])
    odd = {
        f"{PREFIX}gate.flags": torch.tensor([True, False, True]),
        f"{PREFIX}gate.table": torch.arange(7, dtype=torch.int64),
        f"{PREFIX}gate.zero": torch.tensor(-0.0, dtype=torch.float64),
    }
    beside(folders["law"], odd, modules_to_save=["gate"])
    for name, folder in folders.items():
        bank.register(folder, name=name)
    return folders


def test_a_reconstruction_has_them_bit_for_bit(bank, three, tmp_path):
    bank.build_basis("b", NAMES, components=1, force=True)
    for name, folder in three.items():
        wanted = beside_factors(folder)
        assert wanted and bits(bank.reconstruct(name, dtype=torch.bfloat16).extras) == wanted
        bank.write_reconstruction(name, tmp_path / name, dtype="float16")
        assert beside_factors(tmp_path / name) == wanted


def test_one_that_was_added_later_has_them_too(bank, three):
    bank.build_basis("b", NAMES[:2], components=1, force=True)
    bank.add_to_basis("b", "law", force=True)
    assert bits(bank.reconstruct("law").extras) == beside_factors(three["law"])


def test_their_bytes_are_counted(bank, three, tmp_path):
    for seed, name in enumerate(NAMES):
        bank.register(write_adapter(tmp_path / "bare" / name, seed=seed), name=f"bare-{name}")
    bare, full = (bank.basis_options([f"{prefix}{name}" for name in NAMES])[1] for prefix in ("bare-", ""))
    extras = sum(len(data) for folder in three.values() for _, _, data in beside_factors(folder).values())
    assert full.bytes >= bare.bytes + extras
    assert (full.error_worst, full.error_mean) == pytest.approx((bare.error_worst, bare.error_mean), rel=1e-9)
    basis = bank.build_basis("b", NAMES, components=1, force=True)
    members = bank.members("b")
    assert full.bytes == basis.bytes + sum(member.bytes for member in members)
    assert basis.bytes + sum(member.bytes for member in members) == sum(
        bank.rooms.vault.size(digest) for digest in (basis.object, *(member.object for member in members))
    )


def test_a_compacted_version_keeps_them_through_every_way(bank, three, tmp_path):
    bank.build_basis("b", NAMES, components=1, force=True)
    done = bank.compact(NAMES, drop_exact=True)
    assert set(done.refs) == {f"{name}@1" for name in NAMES}
    for name, folder in three.items():
        bank.export(name, tmp_path / name, bounded=True)
        assert beside_factors(tmp_path / name) == beside_factors(folder)
    bank.rebuild_basis("b", accept_generation_loss=True, force=True)
    for name, folder in three.items():
        assert bits(bank.reconstruct(name, basis="b@2").extras) == beside_factors(folder)


def test_a_merge_takes_equal_ones_along_and_refuses_different_ones(bank, three, make, tmp_path):
    with pytest.raises(IncompatibleError, match=r"classifier\.weight"):
        bank.merge("average", {"sql": 1.0, "math": 1.0}, name="m")
    bank.register(with_extras(make("twin", seed=9), seed=0), name="twin")
    bank.merge("average", {"sql": 1.0, "twin": 1.0}, name="m")
    bank.export("m", tmp_path / "m")
    assert beside_factors(tmp_path / "m") == beside_factors(three["sql"])
