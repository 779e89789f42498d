"""μ + Σ_k c_k·b_k: every backend against float64, named backends honoured."""

from __future__ import annotations

import pytest
import torch

from adapterbank.errors import PlatformError, UsageError
from adapterbank.rmm import reconstruct as module
from adapterbank.rmm.reconstruct import backend_for, compiler, reconstruct
from tests.lora.make import normal

SHAPES = [(0, 100, 16), (1, 1, 1), (3, 257, 16), (5, 40, 64), (2, 0, 4)]  # p, D, r


def parts(p: int, D: int, r: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return normal(D, r, seed=1).to(dtype), normal(p, D, r, seed=2).to(dtype), normal(D, p, seed=3).to(dtype)


def reference(mean: torch.Tensor, components: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    return mean.double() + torch.einsum("dp,pdr->dr", coefficients.double(), components.double())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [64, 1 << 19])
def test_blocks_equal_the_formula(monkeypatch, shape, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    found = reconstruct(*parts(*shape), backend="blocks")
    torch.testing.assert_close(found.double(), reference(*parts(*shape)), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_sums_run_in_float32_whatever_is_stored_and_wanted(stored, wanted):
    given = parts(3, 50, 8, stored)
    out = torch.full((50, 8), torch.nan, dtype=wanted)
    assert reconstruct(*given, out) is out
    exact = reference(*given)
    limit = max(torch.finfo(wanted).eps, 0 if wanted == torch.float64 else torch.finfo(torch.float32).eps * 4)
    assert (out.double() - exact).abs().max() <= limit * exact.abs().max()


def test_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 256)
    given, before = parts(3, 500, 16), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = reconstruct(*given)
        torch.set_num_threads(2)
        two = reconstruct(*given)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler here")
def test_compiled_equals_blocks():
    given = parts(2, 64, 16)
    torch.testing.assert_close(reconstruct(*given, backend="compiled"), reconstruct(*given, backend="blocks"))


def test_auto_says_what_it_is_and_names_are_honoured():
    assert backend_for("auto") == backend_for("blocks") == "blocks"
    with pytest.raises(UsageError, match="'triton' does not exist: expected one of auto, compiled, blocks"):
        reconstruct(*parts(1, 4, 2), backend="triton")


def test_without_a_compiler_compiled_is_refused_and_auto_works(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert compiler() is None
    with pytest.raises(PlatformError, match="needs a C\\+\\+ compiler"):
        reconstruct(*parts(1, 4, 2), backend="compiled")
    assert reconstruct(*parts(1, 4, 2), backend="auto").shape == (4, 2)


@pytest.mark.parametrize(
    ("mean", "components", "coefficients"),
    [((4, 3), (1, 4, 2), (4, 1)), ((4, 2), (1, 4, 2), (4, 2)), ((5, 2), (1, 4, 2), (4, 1))],
)
def test_shapes_that_do_not_fit_are_refused(mean, components, coefficients):
    with pytest.raises(UsageError, match="do not fit"):
        reconstruct(torch.zeros(mean), torch.zeros(components), torch.zeros(coefficients))
