"""R factors of tall matrices in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 16384  # of a block in float64: 2 MB at rank 16


def r_factor(tall: Tensor) -> Tensor:
    """The upper triangular R ``[min(d, r), r]`` in float64 of ``tall [d, r] = QR``, up to the signs of its rows.

    Block after block of rows is folded into R (TSQR), so that neither a float64 copy of ``tall`` nor Q is ever held. A Gram
    matrix would be cheaper, but it squares the condition number.
    """
    R = tall.new_zeros((0, tall.shape[1]), dtype=torch.float64)
    for block in torch.split(tall, _ROWS):
        R = torch.linalg.qr(torch.cat([R, block.double()]), mode="r").R
    return R
