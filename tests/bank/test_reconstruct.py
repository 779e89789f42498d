"""Reconstruction against an independent float64 implementation of arXiv 2510.14163, and the forms it may come from."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterbank.errors import ConflictError, IntegrityError, NotFoundError, PlatformError, UsageError
from adapterbank.lora.delta import delta
from tests.bank import dense

SHAPES = {
    "wide": {"h.0.q": (40, 12), "h.0.v": (12, 40)},
    "square": {"h.0.q": (24, 24), "h.1.q": (24, 24), "h.1.out": (24, 24)},
    "one": {"h.0.q": (33, 17)},
}


def deltas(adapter):
    return {name: delta(factors).numpy() for name, factors in adapter.modules.items()}


@pytest.mark.parametrize(("shapes", "count", "rank"), [("wide", 6, 4), ("square", 4, 8), ("one", 9, 3), ("one", 3, 16)])
def test_it_equals_the_published_method(bank, add, shapes, count, rank):
    names = [f"a{i}" for i in range(count)]
    folders = [add(name, modules=SHAPES[shapes], rank=rank, alpha=4.0 * i + 1, seed=100 + i) for i, name in enumerate(names)]
    for p in (1, 2, 3):
        basis = bank.build_basis("b", names, components=p, force=True)
        errors = {member.version: member.error for member in bank.members(basis.ref)}
        wanted = dense.reversible([dense.factors(folder) for folder in folders], p)
        for name, folder, reference in zip(names, folders, wanted, strict=True):
            found = deltas(bank.reconstruct(name, basis=basis.ref))
            assert dense.distance(found, reference) <= 1e-4
            assert errors[f"{name}@1"] == pytest.approx(dense.distance(found, dense.deltas(folder)), rel=1e-5, abs=1e-6)


@pytest.fixture
def unlike(bank, add):
    """Six adapters that differ in α, rsLoRA and patterns; one lacks a module. Their directories by name."""
    sizes = {"h.0.q": (20, 14), "h.0.v": (10, 14), "h.1.q": (20, 14)}
    fewer = {name: size for name, size in sizes.items() if name != "h.1.q"}
    how = {
        "plain": {"alpha": 8},
        "loud": {"alpha": 64},
        "rs": {"alpha": 8, "use_rslora": True},
        "alphas": {"alpha": 8, "alpha_pattern": {"h.0.v": 32}},
        "ranks": {"alpha": 8, "rank_pattern": {"h.0.q": 2}},
        "fewer": {"alpha": 8, "modules": fewer},
    }
    return {name: add(name, seed=i, **({"modules": sizes} | rest)) for i, (name, rest) in enumerate(how.items())}


@pytest.mark.parametrize("gauge", ["given", "svd", "procrustes"])
def test_adapters_of_other_alpha_and_patterns_come_back_with_their_own_delta(bank, unlike, gauge):
    bank.build_basis("b", list(unlike), components=5, gauge=gauge, force=True)
    for name, folder in unlike.items():
        adapter = bank.reconstruct(name)
        assert {factors.scaling for factors in adapter.modules.values()} == {1.0}
        assert dense.distance(deltas(adapter), dense.deltas(folder)) < 1e-5


@pytest.mark.parametrize("p", [1, 2])
def test_unlike_adapters_equal_the_published_method_too(bank, unlike, p):
    bank.build_basis("b", list(unlike), components=p, force=True)
    wanted = dense.reversible([dense.factors(folder) for folder in unlike.values()], p)
    for (name, folder), reference in zip(unlike.items(), wanted, strict=True):
        found = deltas(bank.reconstruct(name))
        assert dense.distance(found, reference) <= 1e-4
        form = bank.forms(name)[0]
        truth = dense.deltas(folder)
        assert form.error == pytest.approx(dense.distance(found, truth), rel=1e-5, abs=1e-6)
        for module, value in form.module_errors.items():
            assert value == pytest.approx(dense.distance({module: found[module]}, {module: truth[module]}), rel=1e-5, abs=1e-6)


def test_a_module_that_an_adapter_lacks_is_absent_and_enters_no_mean(bank, unlike):
    bank.build_basis("all", list(unlike), components=0, force=True)
    assert "h.1.q" not in bank.reconstruct("fewer").modules
    assert bank.forms("fewer")[0].absent == ("h.1.q",) and bank.forms("plain")[0].absent == ()
    holders = [name for name in unlike if name != "fewer"]
    bank.build_basis("holders", holders, components=0, force=True)
    with_it, without = (deltas(bank.reconstruct("plain", basis=basis))["h.1.q"] for basis in ("all", "holders"))
    assert (with_it == without).all()


@pytest.mark.parametrize("gauge", ["svd", "procrustes"])
def test_other_factors_of_the_same_deltas_give_the_same_errors(bank, add, make, gauge):
    names = [f"a{i}" for i in range(5)]
    for i, name in enumerate(names):
        folder = add(name, rank=6, seed=i)
        _regauge(folder, seed=i)
        bank.register(folder, name=f"{name}-again")
    bank.build_basis("first", names, components=2, gauge=gauge, force=True)
    bank.build_basis("second", [f"{name}-again" for name in names], components=2, gauge=gauge, force=True)
    for name in names:
        one, other = bank.forms(name)[0], bank.forms(f"{name}-again")[0]
        assert other.error == pytest.approx(one.error, rel=0.01)
        assert dense.distance(deltas(bank.reconstruct(f"{name}-again")), deltas(bank.reconstruct(name))) < 1e-4


def _regauge(folder, seed):
    """Write B·G and G⁻¹·A over B and A, another well-conditioned G for each module."""
    weights, generator = folder / "adapter_model.safetensors", torch.Generator().manual_seed(seed)
    tensors = load_file(weights)
    for key in [key for key in tensors if ".lora_A." in key]:
        A, B = tensors[key].double(), tensors[key.replace("lora_A", "lora_B")].double()
        Q = torch.linalg.qr(torch.randn(len(A), len(A), generator=generator, dtype=torch.float64)).Q
        G = Q * torch.linspace(0.5, 2, len(A))
        tensors[key], tensors[key.replace("lora_A", "lora_B")] = torch.linalg.solve(G, A).float(), (B @ G).float()
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, weights)


@pytest.fixture
def three(bank, add):
    folders = {name: add(name, seed=seed, rank=6) for seed, name in enumerate(("sql", "math", "law"))}
    bank.build_basis("coarse", list(folders), components=0, force=True)
    bank.build_basis("fine", list(folders), components=1, gauge="svd", force=True)
    return folders


def test_without_a_basis_it_is_the_form_with_the_smallest_error_and_named(bank, three, tmp_path):
    forms = bank.forms("sql")
    assert [form.basis for form in forms] == ["fine@1", "coarse@1"] and forms[0].error < forms[1].error
    written = bank.write_reconstruction("sql", tmp_path / "out")
    assert (written.basis, written.error, written.error_kind) == ("fine@1", forms[0].error, "measured")
    found = deltas(bank.reconstruct("sql"))
    assert dense.distance(found, deltas(bank.reconstruct("sql", basis="fine"))) == 0.0
    assert dense.distance(found, dense.deltas(three["sql"])) == pytest.approx(forms[0].error, rel=1e-5)


def test_a_written_reconstruction_says_what_it_is(bank, three, tmp_path):
    bank.write_reconstruction("sql", tmp_path / "out", basis="coarse")
    marks = json.loads((tmp_path / "out" / "adapterbank.json").read_text())
    form = bank.forms("sql")[1]
    assert (marks["approximation_of"], marks["basis"], marks["relative_delta_error"]) == ("sql@1", "coarse@1", form.error)
    assert dense.distance(dense.deltas(tmp_path / "out"), deltas(bank.reconstruct("sql", basis="coarse"))) < 1e-7
    with pytest.raises(ConflictError):
        bank.write_reconstruction("sql", tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_have_the_dtype_asked_for(bank, three, dtype):
    adapter = bank.reconstruct("sql", device="cpu", dtype=dtype)
    assert {t.dtype for f in adapter.modules.values() for t in (f.A, f.B)} == {dtype}
    assert dense.distance(deltas(adapter), deltas(bank.reconstruct("sql"))) < 2e-2


@pytest.mark.parametrize(("dtype", "name"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_a_directory_has_the_dtype_asked_for(bank, three, tmp_path, dtype, name):
    bank.write_reconstruction("sql", tmp_path / "out", dtype=dtype)
    assert {t.dtype for t in load_file(tmp_path / "out" / "adapter_model.safetensors").values()} == {name}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_error_of_a_narrower_directory_counts_its_rounding(bank, three, tmp_path, dtype):
    """Three adapters and two components: the stored form is exact to float32, what is written is not."""
    bank.build_basis("exact", list(three), components=2, force=True)
    written = bank.write_reconstruction("sql", tmp_path / "out", basis="exact", dtype=dtype)
    weights = tmp_path / "out" / "adapter_model.safetensors"
    save_file({key: tensor.float() for key, tensor in load_file(weights).items()}, weights)  # numpy knows no bfloat16
    true = dense.distance(dense.deltas(tmp_path / "out"), dense.deltas(three["sql"]))
    marks = json.loads((tmp_path / "out" / "adapterbank.json").read_text())
    assert bank.forms("sql")[0].error < 1e-6 < 1e-4 < true <= written.error < 1.1 * true
    assert (written.error_kind, marks["error_kind"], marks["relative_delta_error"]) == ("bound", "bound", written.error)


def test_what_is_not_there_is_said(bank, three, add, tmp_path):
    add("alone", seed=9)
    with pytest.raises(NotFoundError, match="alone@1 has no stored form"):
        bank.reconstruct("alone")
    with pytest.raises(NotFoundError, match=r"alone@1 is not a member of fine@1"):
        bank.reconstruct("alone", basis="fine")
    with pytest.raises(NotFoundError, match="nope"):
        bank.reconstruct("sql", basis="nope")
    with pytest.raises(UsageError, match="does not exist"):
        bank.reconstruct("sql", device="gpu")
    with pytest.raises(PlatformError, match="cannot be used"):
        bank.reconstruct("sql", device="cuda:99")
    with pytest.raises(UsageError, match="int8"):
        bank.reconstruct("sql", dtype=torch.int8)
    with pytest.raises(UsageError, match="int8"):
        bank.write_reconstruction("sql", tmp_path / "out", dtype="int8")


def test_a_reconstruction_outlives_the_bank_and_its_basis(bank, three):
    adapter = bank.reconstruct("sql", basis="coarse")
    before = {name: value.copy() for name, value in deltas(adapter).items()}
    bank.remove_basis("coarse")
    bank.close()
    assert dense.distance(deltas(adapter), before) == 0.0


def test_a_member_of_another_basis_is_refused(bank, three):
    from adapterbank import container
    from adapterbank.rmm.objects import Member

    data = bank.rooms.vault.read(bank.forms("sql")[0].object)
    with pytest.raises(IntegrityError, match="basis sha256"):
        Member.from_object(*container.read(bytearray(data)), bank.basis("coarse").object)


def test_a_damaged_basis_is_not_read(bank, place, three):
    digest = bank.basis("fine").object
    path = place / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(IntegrityError, match=digest[:12]):
        bank.reconstruct("sql", basis="fine")
    assert [problem.where for problem in bank.verify().problems if digest[:12] in (problem.where or problem.message)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_is_the_same(bank, three):
    adapter = bank.reconstruct("sql", device="cuda")
    assert {f.A.device.type for f in adapter.modules.values()} == {"cuda"}
    found = {name: delta(factors).cpu().numpy() for name, factors in adapter.modules.items()}
    assert dense.distance(found, deltas(bank.reconstruct("sql"))) < 1e-6
