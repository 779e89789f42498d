"""Running sums of XᵀX of the inputs of modules, over as many forward passes as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from adapterbank.calibration.attached import module_input
from adapterbank.calibration.places import Place
from adapterbank.merge.least_squares import packed

Seen = tuple[ReferenceType[Tensor], int, tuple[Tensor, int]]  # an input, its version when it was seen, its product


class InputGrams:
    """``XᵀX / N`` by module over the N tokens that counted; of an embedding its diagonal ``[vocabulary]``.

    Products are taken in the inputs' precision (at least float32) and added up in float64. ``mask [batch, T]`` (bool) says
    which tokens of the pass to come count; it applies to inputs ``[batch, T, d]`` or ``[batch·T, d]``, while of any other
    input, such as a pooled one, every row counts. Modules that are called with the same tensor (query, key and value) share
    the work and, in the end, the result.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = {place.name: place for place in places}
        self._sums: dict[str, Tensor] = {}
        self._counts = dict.fromkeys(self._places, 0)
        self._seen: dict[int, Seen] = {}
        self.mask: Tensor | None = None

    def add(self, name: str, x: Tensor) -> None:
        """Count the input ``x`` of module ``name``."""
        product, count = self._product(self._places[name], x.detach())
        total = self._sums.get(name)
        self._sums[name] = product.to(torch.float64, copy=True) if total is None else total.add_(product)
        self._counts[name] += count

    def tokens(self, name: str) -> int:
        """How many tokens module ``name`` has seen."""
        return self._counts[name]

    def of(self, name: str) -> Tensor:
        """``XᵀX / N`` of module ``name`` in float64, symmetric, on the CPU; zeros if nothing came by."""
        place = self._places[name]
        shape = (place.d_in,) if place.is_embedding else (place.d_in, place.d_in)
        total = self._sums.get(name, torch.zeros(shape, dtype=torch.float64)).cpu() / max(1, self._counts[name])
        return total if total.ndim == 1 else (total + total.T) / 2

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """All of them in float32, packed, by key, and each module's key: equal ones are there once, under the first's name."""
        tensors: dict[str, Tensor] = {}
        keys: dict[str, str] = {}
        for name in sorted(self._places):
            own = packed(self.of(name)).float()
            same = (key for key, other in tensors.items() if own.shape == other.shape and torch.equal(own, other))
            keys[name] = next(same, name)
            tensors.setdefault(keys[name], own)
        return tensors, keys

    def _product(self, place: Place, x: Tensor) -> tuple[Tensor, int]:
        known = self._seen.get(id(x))
        if known is not None and known[0]() is x and known[1] == x._version:
            return known[2]
        rows = self._counted(x.unsqueeze(-1) if place.is_embedding else x)
        if place.is_embedding:
            product = torch.bincount(rows.flatten(), minlength=place.d_in).double()
        else:
            rows = rows.to(place.dtype)
            product = rows.T @ rows
        result = product, len(rows)
        self._seen = {key: entry for key, entry in self._seen.items() if entry[0]() is not None}
        self._seen[id(x)] = ref(x), x._version, result
        return result

    def _counted(self, x: Tensor) -> Tensor:
        """The rows ``[N, d]`` of ``x [..., d]`` that count."""
        rows = x.reshape(-1, x.shape[-1])
        if self.mask is None or (x.shape[:-1] != self.mask.shape and x.shape[:-1] != (self.mask.numel(),)):
            return rows
        return rows[self.mask.flatten().to(x.device)]


class PassEnded(BaseException):
    """Ends a forward pass early. No Exception, so that no model's own handler can swallow it."""


Watch = Callable[[str, Tensor], None]


@contextmanager
def watched(places: Sequence[Place], watch: Watch) -> Iterator[None]:
    """Call ``watch(name, input)`` before each of the modules runs."""
    with ExitStack() as stack:
        for place in places:
            hook = place.module.register_forward_pre_hook(_pre_hook(place.name, watch), with_kwargs=True)
            stack.callback(hook.remove)
        yield


def _pre_hook(name: str, watch: Watch) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watch(name, module_input(args, kwargs))

    return hook
