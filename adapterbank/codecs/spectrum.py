"""A module in the SVD gauge, ΔW = Σ_k s_k·u_k·v_kᵀ: what the coder sees of an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.gauge import blocks, frames


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """``s [r]`` float64 in descending order, ``U [r, d_out]`` and ``V [r, d_in]`` float32 with the singular vectors as rows."""

    s: Tensor
    U: Tensor
    V: Tensor

    @classmethod
    def of(cls, factors: Factors) -> Spectrum:
        """The spectrum of one module; components that are rounding errors of the product are left out."""
        (frame,) = frames([factors], "svd")
        rows = torch.empty(factors.d_out + factors.d_in, factors.rank, dtype=torch.float64)
        for where, block in blocks(factors, frame):
            rows[where] = block
        squares = rows[: factors.d_out].square().sum(dim=0)
        live = squares > 0.0
        scaled = rows[:, live].T / squares[live].sqrt().unsqueeze(1)
        return cls(squares[live], scaled[:, : factors.d_out].float(), scaled[:, factors.d_out :].float())

    @property
    def energy(self) -> float:
        """‖ΔW‖²_F."""
        return float(self.s.square().sum())


def spectra(adapter: Adapter) -> Sequence[Spectrum]:
    """The spectra of an adapter's modules, in order of their names. Raises IncompatibleError where a factor is not finite."""
    for name, factors in adapter.modules.items():
        if not bool(factors.A.isfinite().all() and factors.B.isfinite().all()):
            raise IncompatibleError(
                f"module {name!r} holds NaN or infinite values: no coded form of it has an error",
                hint="adapterbank compact --level exact keeps every bit",
            )
    return [Spectrum.of(factors) for factors in adapter.modules.values()]
