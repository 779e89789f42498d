"""Adapters out of the ordinary."""

from __future__ import annotations

import pytest
import torch

from adapterbank.codecs.coder import Coded, decode, encode, inspect
from adapterbank.codecs.target import Target
from adapterbank.errors import IncompatibleError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta_error

from .made import adapter, factors, same


def round_trip(original: Adapter, max_error: float = 0.2, effort: int = 0) -> Coded:
    """Coded, with what must hold for every adapter checked."""
    coded = encode(original, Target(max_error=max_error), effort=effort)
    decoded = decode(coded.data, base_model=original.base_model)
    assert same(coded.adapter, decoded)
    assert coded.error.total <= max_error
    assert coded.error == delta_error(original, decoded)
    assert decoded.base_model == original.base_model
    assert [(s.name, s.d_out, s.d_in, s.kind, s.kernel) for s in decoded.shapes] == [
        (s.name, s.d_out, s.d_in, s.kind, s.kernel) for s in original.shapes
    ]
    assert all(f.A.dtype == f.B.dtype == torch.float32 and f.scaling == 1.0 for f in decoded.modules.values())
    for module in inspect(coded.data).modules:
        assert module.live <= module.rank == original.modules[module.name].rank
        assert decoded.modules[module.name].rank == max(module.live, 1)
    return coded


@pytest.mark.parametrize("effort", [0, 1])
def test_modules_of_unlike_ranks_and_shapes(effort: int):
    sizes = {"a": (3, 90, 1), "b": (64, 8, 5), "c": (40, 40, 12), "d": (1, 70, 1), "e": (70, 1, 1)}
    round_trip(adapter(sizes), effort=effort)


@pytest.mark.parametrize("effort", [0, 1])
def test_vectors_of_one_entry(effort: int):
    round_trip(Adapter({"layer": Factors(torch.tensor([[2.5]]), torch.tensor([[-0.3]]))}), max_error=0.1, effort=effort)


def test_a_rank_above_both_dimensions():
    coded = round_trip(Adapter({"layer": factors(5, 4, 9, seed=0)}), max_error=0.05)
    assert inspect(coded.data).modules[0].live <= 4


@pytest.mark.parametrize("effort", [0, 2])
def test_modules_of_zeros_beside_others(effort: int):
    original = adapter()
    original.modules["layer.0.query"].B.zero_()
    original.modules["layer.0.value"].A.zero_()
    coded = round_trip(original, effort=effort)
    for name in ("layer.0.query", "layer.0.value"):
        own = coded.adapter.modules[name]
        assert own.rank == 1 and not own.A.any() and not own.B.any()
    assert [m.live for m in inspect(coded.data).modules if m.live == 0] == [0, 0]


@pytest.mark.parametrize("target", [Target(max_error=0.1), Target(bits=8.0), Target(step=0.5)], ids=["error", "bits", "step"])
def test_an_adapter_of_zeros(target: Target):
    original = adapter()
    for own in original.modules.values():
        own.B.zero_()
    coded = encode(original, target)
    assert coded.error.total == 0.0
    assert not any(own.B.any() or own.A.any() for own in coded.adapter.modules.values())


def test_an_adapter_without_modules():
    coded = encode(Adapter({}, extras={"head.bias": torch.ones(3)}), Target(max_error=0.1))
    assert not coded.adapter.modules and coded.error.total == 0.0
    assert torch.equal(decode(coded.data).extras["head.bias"], torch.ones(3))


def test_kinds_keep_their_kind_and_kernel():
    conv, table, expert = factors(24, 27, 3, seed=1), factors(16, 200, 3, seed=2), factors(20, 30, 2, seed=3)
    modules = {
        "conv": Factors(conv.A, conv.B, kind="conv", kernel=(3, 3)),
        "embed": Factors(table.A, table.B, kind="embedding"),
        "experts[0]": Factors(expert.A, expert.B, kind="expert"),
    }
    round_trip(Adapter(modules))


def test_a_refined_module_keeps_kind_and_kernel():
    conv = factors(64, 90, 3, seed=1)
    first = Adapter({"conv": Factors(conv.A, conv.B, kind="conv", kernel=(3, 3))})
    second = Adapter({"conv": Factors(conv.A * 1.01, conv.B, kind="conv", kernel=(3, 3))})
    coded = encode(first, Target(max_error=0.05), effort=0)
    chained = encode(second, Target(max_error=0.1), effort=0, references={"0" * 64: coded.data})
    assert [module.predict for module in inspect(chained.data).modules] == ["refined"]
    own = chained.adapter.modules["conv"]
    assert (own.kind, own.kernel) == ("conv", (3, 3))


def test_extras_travel_verbatim():
    extras = {
        "classifier.weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "classifier.bias": torch.tensor([-0.0, float("inf"), float("nan")]),
        "empty": torch.zeros(0, 2),
        "ids": torch.tensor([2**62, -1]),
        "mask": torch.tensor(True),
    }
    found = decode(encode(Adapter(adapter().modules, extras=extras), Target(max_error=0.3)).data).extras
    assert list(found) == sorted(extras)
    for name, tensor in extras.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].reshape(-1).view(torch.uint8).tolist() == tensor.reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_factors_of_other_dtypes(dtype: torch.dtype):
    modules = {name: Factors(own.A.to(dtype), own.B.to(dtype), own.scaling) for name, own in adapter().modules.items()}
    round_trip(Adapter(modules), max_error=0.05)


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_very_small_and_very_large_adapters(scale: float):
    modules = {name: Factors(own.A * scale, own.B * scale) for name, own in adapter().modules.items()}
    round_trip(Adapter(modules))


def test_names_of_any_letters():
    own = factors(20, 20, 2, seed=0)
    round_trip(Adapter({"mödel.層.0": own, "a[3]": own, " ": own}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_factors_that_are_not_finite_are_refused_by_name(value: float):
    broken = Factors(torch.full((4, 8), value), torch.ones(8, 4))
    with pytest.raises(IncompatibleError, match="'layer'"):
        encode(Adapter({"layer": broken}), Target(max_error=0.3))
