"""n deltas between two shared orthonormal bases: exact, and K × K each (Core Space, arXiv 2509.17786, has SVD bases)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.merge.core import LowRank


@dataclass(frozen=True, slots=True, eq=False)
class SmallCore:
    """``ΔW_i = left @ values[i] @ right.T``: ``left [d_out, p]`` and ``right [d_in, q]`` orthonormal, ``values [n, p, q]``."""

    left: Tensor
    values: Tensor
    right: Tensor

    def outside(self, core: Tensor) -> LowRank:
        """The delta ``[d_out, d_in]`` of one core ``[p, q]``."""
        return LowRank(self.left @ core, self.right)


def small_core(parts: Sequence[LowRank]) -> SmallCore:
    """The deltas ``parts`` between the QR bases of all their left and all their right factors; p and q are Σ r_i at most."""
    left, L = torch.linalg.qr(torch.cat([part.left for part in parts], dim=1))
    right, R = torch.linalg.qr(torch.cat([part.right for part in parts], dim=1))
    widths = [part.left.shape[1] for part in parts]
    pairs = zip(L.split(widths, dim=1), R.split(widths, dim=1), strict=True)
    return SmallCore(left, torch.stack([one @ other.T for one, other in pairs]), right)
