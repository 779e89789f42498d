"""The quantizer against a search over all levels, and against Max's table for Gaussians."""

from __future__ import annotations

import pytest
import torch

from adapterbank.codecs.fixed.quantizer import WIDTHS, distortion, fitted, gaussian_scale, quantize

# Squared error of the best uniform quantizer of a standard Gaussian (Max 1960, table II).
MAX_1960 = {1: 0.3634, 2: 0.1188, 3: 0.03744, 4: 0.01154, 5: 0.00349, 6: 0.00104}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_nearest_level_is_taken(width: int) -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(width))
    scale = torch.tensor([0.3, 0.05, 1.0])
    codes = quantize(rows, scale, torch.full((3,), width))
    levels = 2.0 * torch.arange(2**width) - (2**width - 1)
    nearest = (rows.unsqueeze(-1) - scale.view(3, 1, 1) * levels).abs().argmin(dim=-1)
    assert torch.equal(codes, levels[nearest])


@pytest.mark.parametrize("width", sorted(MAX_1960))
def test_gaussians_lose_what_theory_says(width: int) -> None:
    rows = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    codes, _ = fitted(rows, gaussian_scale(rows, width), torch.tensor([width]), 3)
    assert float(distortion(rows, codes)) == pytest.approx(MAX_1960[width], rel=0.02)


@pytest.mark.parametrize("width", WIDTHS)
def test_fitting_lowers_the_error(width: int) -> None:
    rows = torch.randn(4, 300, generator=torch.Generator().manual_seed(1))
    start, widths = 1.5 * gaussian_scale(rows, width), torch.full((4,), width)
    before = (rows - start.unsqueeze(1) * quantize(rows, start, widths)).square().sum(dim=1)
    codes, scale = fitted(rows, start, widths, 3)
    after = (rows - scale.unsqueeze(1) * codes).square().sum(dim=1)
    assert bool((after < before).all())


def test_a_zero_vector_has_scale_zero() -> None:
    codes, scale = fitted(torch.zeros(1, 8), torch.zeros(1), torch.tensor([2]), 2)
    assert float(scale) == 0.0
    assert bool(codes.isfinite().all())
