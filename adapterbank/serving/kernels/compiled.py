"""One fused pass over memory: on a CPU the loops of ``loops/``, on a GPU kernels by ``torch.compile``.

On a CPU ``torch.compile`` was tried for the same sums and left: it compiles for some fifteen seconds for every store, dtype and
number of components, takes nibbles at a fifth of the speed of a copy, and has no way to spread bits over rows. The loops are
compiled once, in one to three seconds, by the first write of a process.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adapterbank.serving.kernels import fused, native
from adapterbank.serving.kernels.fit import check
from adapterbank.serving.kernels.reference import ALL, Packed, Window


def write(adapters: Sequence[Packed], outs: Sequence[Tensor], windows: Sequence[Window] | None = None) -> None:
    """As :func:`reference.write`. Raises as :func:`fit.check` says, PlatformError if nothing can be compiled."""
    chosen = list(windows or [ALL] * len(adapters))
    known = [check(adapter, out, window) for adapter, out, window in zip(adapters, outs, chosen, strict=True)]
    if known:
        (native if outs[0].device.type == "cpu" else fused).write(known, outs, chosen)
