"""Made-up artefacts for methods that need some, by method a function of names, shapes and options; equal names, equal ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from adapterbank.merge.artefacts import Artefact, Coefficients, Statistics

Shapes = Mapping[str, tuple[int, int]]


def _draw(name: str, module: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(name, 16) % 1_000_003 + sum(module.encode()))


def gram_of(name: str, module: str, d_in: int) -> torch.Tensor:
    """XᵀX of random correlated inputs, each adapter's of other size in other directions."""
    draw = _draw(name, module)
    X = (
        torch.randn(3 * d_in, d_in, generator=draw, dtype=torch.float64)
        * torch.rand(d_in, generator=draw, dtype=torch.float32).double()
        * 2
    )
    X += torch.randn(3 * d_in, 1, generator=draw, dtype=torch.float64)
    return X.T @ X / len(X)


def fisher_of(name: str, module: str, d_out: int, d_in: int) -> torch.Tensor:
    draw = _draw(name, module)
    return (
        torch.randn(d_out, d_in, generator=draw, dtype=torch.float64).square()
        * torch.rand(1, generator=draw, dtype=torch.float32).double()
    )


def grams(names: Sequence[str], shapes: Shapes, options: Mapping[str, Any]) -> list[Artefact]:
    return [
        Statistics("gram", name, {m: gram_of(name, m, d_in) for m, (_, d_in) in shapes.items()}, {m: m for m in shapes})
        for name in names
    ]


def merged_grams(names: Sequence[str], shapes: Shapes, options: Mapping[str, Any]) -> list[Artefact]:
    about = {"reduce_non_diagonal_ratio": 0.95, "ridge": 1e-6}
    about = {"with": sorted(names), **{key: options.get(key, value) for key, value in about.items()}}
    return [
        Statistics("gram_merged", each.adapter, each.tensors, each.modules, about) for each in grams(names, shapes, options)
    ]


def fishers(names: Sequence[str], shapes: Shapes, options: Mapping[str, Any]) -> list[Artefact]:
    return [
        Statistics("fisher", name, {m: fisher_of(name, m, *shape) for m, shape in shapes.items()}, {m: m for m in shapes})
        for name in names
    ]


def ones(method: str) -> Callable[[Sequence[str], Shapes, Mapping[str, Any]], list[Artefact]]:
    """Coefficients of 1; with masks for the method that has them."""

    def made(names: Sequence[str], shapes: Shapes, options: Mapping[str, Any]) -> list[Artefact]:
        masks = {
            m: torch.stack([torch.rand(9, generator=_draw(n, m), dtype=torch.float32).double() for n in names]) * 2
            for m in shapes
        }
        units = masks if method == "dam_rank_masks" else {}
        values = torch.ones(len(names), len(shapes), dtype=torch.float64)
        return [Coefficients(tuple(names), tuple(shapes), values, {"method": method}, units)]

    return made


ARTEFACTS: Mapping[str, Callable[[Sequence[str], Shapes, Mapping[str, Any]], Sequence[Artefact]]] = {
    "regmean": grams,
    "regmean_plus_plus": merged_grams,
    "fisher": fishers,
    **{name: ones(name) for name in ("adamerging", "frank_wolfe", "map", "m2n2", "dam_rank_masks")},
}
