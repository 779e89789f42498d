from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adapterbank.serving.kernels import native
from adapterbank.serving.kernels.fit import check
from adapterbank.serving.kernels.reference import ALL, Packed, Window


def write(adapters: Sequence[Packed], outs: Sequence[Tensor], windows: Sequence[Window] | None = None) -> None:
    chosen = list(windows or [ALL] * len(adapters))
    known = [check(adapter, out, window) for adapter, out, window in zip(adapters, outs, chosen, strict=True)]
    native.write(known, outs, chosen)
