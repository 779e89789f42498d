"""What is exactly true of RMM at every position, checked on the rows alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterbank.errors import UsageError
from adapterbank.rmm import basis as rmm_basis
from adapterbank.rmm.basis import Fit, fit, project
from tests.lora.make import normal
from tests.rmm.reference import reconstruct_stack

STACKS = [(8, 11, 16), (8, 11, 4), (5, 7, 5), (2, 3, 6), (1, 4, 3), (6, 5, 1)]  # n, D, r: n above, below and at r


def estimate(found: Fit, upto: int | None = None) -> torch.Tensor:
    return found.mean + torch.einsum("ndp,pdr->ndr", found.coefficients[..., :upto], found.components[:upto])


@pytest.mark.parametrize("shape", STACKS)
@pytest.mark.parametrize("p", [0, 1, 2, 3])
def test_equals_one_svd_per_position(shape, p):
    stack = normal(*shape, seed=sum(shape))
    wanted = reconstruct_stack(stack.numpy(), p)
    np.testing.assert_allclose(estimate(fit(stack, p)).numpy(), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("n", "D", "r"), STACKS)
def test_enough_components_are_exact(n, D, r):
    stack = normal(n, D, r, seed=1)
    assert (estimate(fit(stack, min(r, n - 1))) - stack).abs().max() < 1e-12
    assert (estimate(fit(stack, r + n)) - stack).abs().max() < 1e-12


@pytest.mark.parametrize("shape", STACKS)
def test_no_component_is_the_plain_average(shape):
    stack = normal(*shape, seed=2)
    torch.testing.assert_close(estimate(fit(stack, 0)), stack.mean(dim=0).expand(shape))


@pytest.mark.parametrize("shape", STACKS)
def test_the_error_is_the_tail_of_the_spectrum_and_never_grows(shape):
    """Eckart–Young per position: Σ_i ‖x_i − x̂_i‖² = Σ_{k>p} σ_k²; energies are the leading ones."""
    stack = normal(*shape, seed=3)
    spectrum = torch.linalg.svdvals((stack - stack.mean(dim=0)).transpose(0, 1)).square()  # [D, min(n, r)]
    before = torch.full((shape[1],), torch.inf, dtype=torch.float64)
    for p in range(min(shape[0], shape[2]) + 1):
        found = fit(stack, p)
        error = (stack - estimate(found)).square().sum(dim=(0, 2))
        torch.testing.assert_close(error, spectrum[:, p:].sum(dim=1), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.energies, spectrum[:, :p].sum(dim=0), rtol=1e-9, atol=1e-12)
        assert (error <= before + 1e-12).all()
        before = error


def test_no_other_subspace_does_better():
    stack = normal(8, 6, 5, seed=4)
    best = (stack - estimate(fit(stack, 2))).square().sum(dim=(0, 2))
    for seed in range(20):
        Q = torch.linalg.qr(normal(6, 5, 2, seed=100 + seed)).Q.permute(2, 0, 1)
        other = estimate(Fit(stack.mean(0), Q, project(stack, stack.mean(0), Q), best, 0.0))
        assert ((stack - other).square().sum(dim=(0, 2)) >= best - 1e-12).all()


def test_stored_numbers_relative_to_the_originals():
    """p·r + p·n + r numbers per position: at n = 8, r = 16 that is .3125, .5, .6875 and .875 of them for p = 1 … 4."""
    for p, share in zip(range(1, 5), (0.3125, 0.5, 0.6875, 0.875), strict=True):
        found = fit(normal(8, 3, 16, seed=5), p)
        stored = found.mean.numel() + found.components.numel() + found.coefficients.numel()
        assert stored == share * 8 * 3 * 16


def test_components_for_fewer_are_a_prefix():
    stack = normal(8, 9, 6, seed=6)
    long, short = fit(stack, 5), fit(stack, 2)
    assert torch.equal(long.components[:2], short.components)
    torch.testing.assert_close(long.coefficients[..., :2], short.coefficients)


def test_components_are_orthonormal_with_fixed_signs_and_coefficients_sum_to_zero():
    found = fit(normal(8, 9, 6, seed=7), 4)
    gram = torch.einsum("pdr,qdr->dpq", found.components, found.components)
    torch.testing.assert_close(gram, torch.eye(4, dtype=torch.float64).expand(9, 4, 4))
    largest = found.components.gather(-1, found.components.abs().argmax(-1, keepdim=True))
    assert (largest > 0).all()
    assert found.coefficients.sum(dim=0).abs().max() < 1e-12


def test_directions_without_variance_are_zero_components():
    low = normal(6, 4, 2, seed=8) @ normal(2, 8, seed=9) + 3.0  # two directions of variance in eight columns
    found = fit(low, 4)
    assert found.components[2:].abs().max() == 0 and found.coefficients[..., 2:].abs().max() == 0
    assert (estimate(found) - low).abs().max() < 1e-12
    same = normal(1, 4, 8, seed=10).expand(6, 4, 8) * 1e3
    assert fit(same, 3).components.abs().max() == 0
    assert fit(torch.zeros(3, 2, 4), 2).components.abs().max() == 0


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_scale_does_not_matter(scale):
    stack = normal(6, 5, 8, seed=11)
    torch.testing.assert_close(fit(stack * scale, 2).components, fit(stack, 2).components, rtol=1e-9, atol=1e-9)


def test_row_blocks_give_the_same(monkeypatch):
    stack = normal(4, 200, 6, seed=12).float()
    whole = fit(stack, 2)
    monkeypatch.setattr(rmm_basis, "_BLOCK_BYTES", 1)
    blocked = fit(stack, 2)
    assert torch.equal(whole.components, blocked.components) and torch.equal(whole.coefficients, blocked.coefficients)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 1e-12), (torch.bfloat16, 1e-8)])
def test_projection_on_rounded_components_is_least_squares(dtype, bound):
    stack = normal(8, 9, 16, seed=13)
    found = fit(stack, 3)
    mean, components = found.mean.to(dtype), found.components.to(dtype)
    wanted = torch.linalg.lstsq(components.double().permute(1, 2, 0), (stack - mean.double()).permute(1, 2, 0)).solution
    assert (project(stack, mean, components) - wanted.permute(2, 0, 1)).abs().max() < bound * stack.abs().max()


def test_a_held_out_row_keeps_its_projection():
    found = fit(normal(8, 9, 16, seed=14), 3)
    rows = normal(9, 16, seed=15)
    rest = rows - found.mean - torch.einsum("dp,pdr->dr", project(rows, found.mean, found.components), found.components)
    assert torch.einsum("dr,pdr->pd", rest, found.components).abs().max() < 1e-12


@pytest.mark.parametrize(("shape", "p"), [((2, 3, 4), -1), ((0, 3, 4), 1), ((3, 4), 1)])
def test_nonsense_is_refused(shape, p):
    with pytest.raises(UsageError, match="expected a stack"):
        fit(torch.zeros(shape), p)
