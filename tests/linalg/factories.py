"""Random matrices for the tests of this room."""

import torch


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal entries in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
