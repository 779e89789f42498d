"""The device that a bank is resident on, and how what is copied there is ordered between streams.

On a GPU a copy is only started: whoever reads it on another stream waits for its end, and its memory is given to nobody else
while a stream may still read it. On a CPU there is nothing to order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterbank.errors import PlatformError
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.rmm import RmmAdapter


def device_of(name: torch.device | str) -> torch.device:
    """The device, a GPU with its number. Raises PlatformError if it is none that a bank can be resident on, or not there."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise PlatformError(f"device {name!r}: expected 'cpu', 'cuda' or 'cuda:N'") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise PlatformError(f"device {str(device)!r}: a bank is resident on 'cpu', 'cuda' or 'cuda:N'")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise PlatformError(f"device {str(device)!r} is not there: torch sees {count} CUDA devices", hint="device='cpu'")
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())


@dataclass(slots=True)
class Placed:
    """An adapter on the device; on a GPU with the tensors that it is read from, and the event that ends the copy."""

    packed: Packed
    tensors: tuple[Tensor, ...] = ()
    copied: Any = None

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes

    def join(self) -> None:
        """Call before the caller's current stream reads it, while it is held: the stream waits for the copy, and memory that is
        let go of afterwards stays as it is until the stream's work is done."""
        if not self.tensors:
            return
        stream, copied = torch.cuda.current_stream(self.tensors[0].device), self.copied
        if copied is not None and copied.query():
            self.copied = None
        elif copied is not None:
            stream.wait_event(copied)
        for tensor in self.tensors:
            tensor.record_stream(stream)


def placed(packed: Packed, device: torch.device) -> Placed:
    """``packed`` on ``device``; on a GPU its copy from (pinned) host memory is started on the caller's current stream."""
    if device.type != "cuda":
        return Placed(packed)
    tensors: list[Tensor] = []

    def kept(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    there = packed.moved(lambda tensor: kept(tensor.to(device, non_blocking=True)))
    if isinstance(there, RmmAdapter):
        there.basis.moved(kept)
    return Placed(there, tuple(tensors), event(device))


def event(device: torch.device) -> Any:
    """An event on the caller's current stream of a GPU."""
    made = torch.cuda.Event()  # type: ignore[no-untyped-call]
    made.record(torch.cuda.current_stream(device))
    return made
