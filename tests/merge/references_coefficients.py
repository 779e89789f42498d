"""Merges by learned coefficients once more, one rank unit at a time in plain loops; and coefficients for the tests."""

import numpy as np
import torch

from adapterbank.merge.artefacts import Coefficients


def weighted_sum(factors, weights, names, coefficients):
    """``factors[module]``: per adapter ``(s·B, A)``, or None where it has none."""
    out = {}
    for module, pairs in factors.items():
        column = coefficients.modules.index(module)
        total = 0.0
        for pair, weight, name in zip(pairs, weights, names, strict=True):
            row = coefficients.names.index(name)
            c = weight * float(coefficients.values[row, column])
            for k in range(0 if pair is None else pair[1].shape[0]):
                unit = float(coefficients.units[module][row, k]) if module in coefficients.units else 1.0
                total = total + c * unit * np.outer(pair[0][:, k], pair[1][k])
        out[module] = total
    return out


ON_FACTORS = ("adamerging", "frank_wolfe", "map", "m2n2", "dam_rank_masks")


def made_up(names, modules, method, *, width=6, seed=0):
    """Random coefficients; masks with mean 1 for the method that has them."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(len(names), len(modules), generator=draw, dtype=torch.float64) * 2 - 0.5
    units = {m: torch.rand(len(names), width, generator=draw, dtype=torch.float64) * 2 for m in modules}
    masked = units if method == "dam_rank_masks" else {}
    return Coefficients(tuple(names), tuple(modules), values, {"method": method}, masked)
