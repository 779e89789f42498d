"""RMM written as slowly and plainly as the paper: one position at a time, numpy's SVD in float64. The oracle of the tests."""

from __future__ import annotations

import numpy as np

from adapterbank.lora.adapter import Adapter


def reconstruct_rows(rows: np.ndarray, p: int) -> np.ndarray:
    """x̂_i ``[n, r]`` of the vectors x_i ``[n, r]`` that n adapters hold at one position."""
    mean = rows.mean(axis=0)
    basis = np.linalg.svd((rows - mean).T, full_matrices=False)[0][:, :p]
    return np.stack([mean + basis @ (basis.T @ (row - mean)) for row in rows])


def reconstruct_stack(stack: np.ndarray, p: int) -> np.ndarray:
    """The same for every position of ``[n, D, r]``."""
    return np.stack([reconstruct_rows(stack[:, j], p) for j in range(stack.shape[1])], axis=1)


def reconstruct_deltas(adapters: list[Adapter], p: int) -> list[dict[str, np.ndarray]]:
    """ΔŴ by module of each adapter, gauge ``given``: scaling folded into B; only holders of a module (at its rank) enter it."""
    found: list[dict[str, np.ndarray]] = [{} for _ in adapters]
    places = {(name, f.rank) for adapter in adapters for name, f in adapter.modules.items()}
    for name, rank in sorted(places):
        holders = [i for i, a in enumerate(adapters) if name in a.modules and a.modules[name].rank == rank]
        held = [adapters[i].modules[name] for i in holders]
        B = reconstruct_stack(np.stack([f.scaling * f.B.double().numpy() for f in held]), p)
        A = reconstruct_stack(np.stack([f.A.double().numpy().T for f in held]), p)
        for i, left, right in zip(holders, B, A, strict=True):
            found[i][name] = left @ right.T
    return found


def relative_error(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """(Σ‖first − second‖² / Σ‖second‖²)^½ over modules."""
    top = sum(((first[name] - second[name]) ** 2).sum() for name in second)
    return float(np.sqrt(top / sum((value**2).sum() for value in second.values())))
