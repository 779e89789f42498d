"""Adapters out of the ordinary."""

from __future__ import annotations

import pytest
import torch

from adapterbank.codecs import fixed
from adapterbank.codecs.target import Target
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta_error

from .made import adapter, factors, same


def round_trip(original: Adapter, max_error: float = 0.2) -> Adapter:
    coded = fixed.encode(original, Target(max_error=max_error))
    assert coded.error.total <= max_error
    assert same(coded.adapter, fixed.decode(coded.data, base_model=original.base_model))
    assert [(s.name, s.d_out, s.d_in, s.kind, s.kernel) for s in coded.adapter.shapes] == [
        (s.name, s.d_out, s.d_in, s.kind, s.kernel) for s in original.shapes
    ]
    assert fixed.read(bytearray(coded.data)).shapes == original.shapes
    return coded.adapter


def test_mixed_ranks_shapes_kinds_and_kernels() -> None:
    conv, embedding = factors(24, 27, 4, 1), factors(16, 200, 3, 2)
    modules = {
        **adapter().modules,
        "conv": Factors(conv.A, conv.B, 2.0, "conv", (3, 3)),
        "embed": Factors(embedding.A, embedding.B, 0.5, "embedding"),
        "experts[0]": factors(16, 12, 2, 3),
        "wide": factors(1, 100, 1, 4),
        "short": factors(5, 7, 9, 5),  # a rank above both dimensions
    }
    assert round_trip(Adapter(modules)).modules["short"].rank <= 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_goes_in_and_float32_comes_out(dtype: torch.dtype) -> None:
    modules = {n: Factors(f.A.to(dtype), f.B.to(dtype), f.scaling) for n, f in adapter().modules.items()}
    back = round_trip(Adapter(modules))
    assert {f.A.dtype for f in back.modules.values()} == {torch.float32}


def test_a_zero_module_has_rank_zero_and_exact_shapes() -> None:
    modules = dict(adapter().modules)
    modules["zero"] = Factors(torch.randn(4, 20), torch.zeros(30, 4))
    zero = round_trip(Adapter(modules)).modules["zero"]
    assert zero.A.shape == (0, 20)
    assert zero.B.shape == (30, 0)


def test_a_zero_adapter_and_one_without_modules_have_no_error() -> None:
    zero = Adapter({"m": Factors(torch.zeros(2, 5), torch.zeros(6, 2))})
    assert round_trip(zero).rank == 0
    assert round_trip(Adapter({})).modules == {}


def test_a_coded_adapter_codes_again() -> None:
    once = fixed.encode(adapter(), Target(max_error=0.4))
    assert min(f.rank for f in once.adapter.modules.values()) < 4
    twice = round_trip(once.adapter, 0.3)
    assert delta_error(once.adapter, twice).total <= 0.3


def test_equal_singular_values_and_repeated_columns() -> None:
    B = torch.linalg.qr(torch.randn(64, 4, generator=torch.Generator().manual_seed(0))).Q
    repeated = torch.ones(4, 32)
    round_trip(Adapter({"equal": Factors(B[:48].T.contiguous(), B), "repeated": Factors(repeated, torch.ones(32, 4))}), 0.1)


def test_constant_vectors_cost_one_bit() -> None:
    coded = fixed.encode(Adapter({"ones": Factors(torch.ones(1, 64), torch.ones(64, 1))}), Target(max_error=0.01))
    assert fixed.read(bytearray(coded.data)).widths.tolist() == [[1], [1]]


@pytest.mark.parametrize("size", [1e-25, 1e-10, 1e10, 1e25])
def test_very_small_and_very_large_numbers(size: float) -> None:
    original = adapter()
    modules = {n: Factors(f.A * size, f.B * size) for n, f in original.modules.items()}
    round_trip(Adapter(modules))


def test_extras_travel_verbatim() -> None:
    extras = {
        "base_model.model.m.lora_magnitude_vector": torch.tensor([1.0, float("nan"), -0.0]),
        "classifier.weight": torch.randn(3, 5).bfloat16(),
        "steps": torch.arange(3),
        "empty": torch.zeros(0, 2),
    }
    coded = fixed.encode(Adapter(adapter().modules, extras=extras), Target(max_error=0.3))
    assert coded.adapter.extras.keys() == extras.keys()
    for key, tensor in extras.items():
        back = coded.adapter.extras[key]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        assert back.view(torch.uint8).numpy().tobytes() == tensor.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_or_too_large_are_refused(value: float) -> None:
    module = factors(8, 8, 2, 0)
    module = Factors(module.A.double(), module.B.double())
    module.B[0, 0] = value
    with pytest.raises(UsageError, match="'m'"):
        fixed.encode(Adapter({"m": module}), Target(max_error=0.5))
