"""MoS adapters (mixture of shards, arXiv 2410.00938) expanded to plain factors, exactly.

MoS trains one pool of short vectors for A and one for B, shared by all modules of a type. Each row of A, and each column of B,
is a concatenation of l shards of the pool, picked by an index matrix that is drawn once and then frozen; a learned scale may
go with each. Sharing within one module with rotated chunks (the repository's ``chunkwise_sharing_LoRA``) is the index
``(k + c) mod r``. The repository saves expanded factors and states no file format for pools, so pools and indices are values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Factors


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """One side of one module: row k of the expanded matrix is ``[scales[k, c]·pool[index[k, c]] for c in 0 … l − 1]``.

    ``pool [P, c]`` may be shared with other modules; ``index [r, l]`` are integers; ``scales [r, l]``, None for ones. The last
    shard of a row is cut off where it would reach beyond ``length``.
    """

    pool: Tensor
    index: Tensor
    length: int
    scales: Tensor | None = None

    def expand(self) -> Tensor:
        """The rows ``[r, length]``. Raises UsageError for an index outside of the pool or shards of a wrong total length."""
        _check(self)
        shards = self.pool[self.index.long()]
        if self.scales is not None:
            shards = shards * self.scales.unsqueeze(-1)
        return shards.flatten(1)[:, : self.length].contiguous()

    @property
    def parameters(self) -> int:
        """Numbers in the pool and the scales; the index is frozen."""
        return self.pool.numel() + (0 if self.scales is None else self.scales.numel())


def expand(A: Shards, B: Shards, scaling: float) -> Factors:
    """The plain LoRA of one module: ``A [r, d_in]`` and ``B [d_out, r]``, whose columns are the rows of ``B``'s shards.

    Raises IncompatibleError if the two sides have different ranks.
    """
    if len(A.index) != len(B.index):
        raise IncompatibleError(f"the shards of A give rank {len(A.index)}, those of B rank {len(B.index)}")
    return Factors(A=A.expand(), B=B.expand().T.contiguous(), scaling=scaling)


def _check(shards: Shards) -> None:
    count, width = shards.pool.shape
    if shards.index.ndim != 2 or shards.index.dtype in (torch.bool, *_FLOATS):
        raise UsageError(f"shard index: got {shards.index.dtype} {list(shards.index.shape)}, expected integers [r, l]")
    if bool(((shards.index < 0) | (shards.index >= count)).any()):
        raise UsageError(f"shard index: entries from {int(shards.index.min())} to {int(shards.index.max())}, pool has {count}")
    if shards.scales is not None and shards.scales.shape != shards.index.shape:
        raise UsageError(f"shard scales: got {list(shards.scales.shape)}, expected {list(shards.index.shape)} like the index")
    reach = shards.index.shape[1] * width
    if not reach - width < shards.length <= reach:
        raise UsageError(
            f"{shards.index.shape[1]} shards of {width} cover {reach}, which does not fit a length of {shards.length}"
        )


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
