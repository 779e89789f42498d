"""What a fast backend checks before it writes: after this its loops need no bounds of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterbank.errors import PlatformError, UsageError
from adapterbank.serving.kernels.reference import ALL, Packed, Window
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import RmmAdapter

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Known = RmmAdapter | RawAdapter | FixedAdapter


def check(adapter: Packed, out: Tensor, window: Window) -> Known:
    """The adapter, if ``out`` and ``window`` are right for it.

    Raises UsageError for a buffer or a window that does not fit, PlatformError for a dtype or a kind of adapter that only the
    reference writes.
    """
    adapter.layout.check(out)
    if out.dtype not in DTYPES or not isinstance(adapter, Known):
        raise PlatformError(
            f"this backend does not write a {type(adapter).__name__} into {out.dtype}", hint="backend 'reference' does"
        )
    if window != ALL:
        _check_window(adapter, window)
    return adapter


def _check_window(adapter: Known, window: Window) -> None:
    """An adapter fits the places of its layout; a window may be narrower."""
    if window.column < 0 or (window.width or 0) < 0:
        raise UsageError(f"window: got column {window.column} and width {window.width}, expected none below 0")
    widths = adapter.layout.table[:, 3] - window.column
    if window.width is not None:
        widths = widths.clamp(max=window.width)
    widths = widths.clamp(min=0)
    if not len(widths) or adapter.rank <= int(widths.min()):
        return
    for rank, width in zip(ranks(adapter), widths.tolist(), strict=True):
        if rank > width:
            raise UsageError(f"{rank} columns do not fit into a window of {width}")


def ranks(adapter: Known) -> list[int]:
    """The rank that the adapter has in every place, ABSENT where it lacks the module. Waits for the device."""
    column = 1 if isinstance(adapter, FixedAdapter) else 2
    found: list[int] = adapter.table[:, column].tolist()
    return found
