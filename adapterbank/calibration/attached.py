"""Several adapters on one model at once, each with a coefficient per module through which gradients flow.

A module answers ``y + B_cat (c ∘ (A_cat x))``: all adapters side by side cost as much as one LoRA of rank Σ r_i, and
``∂L/∂c_i = <∂L/∂W, ΔW_i>`` needs no dense delta (the form that AdaMerging, arXiv 2310.02575, has for LoRA).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapterbank.calibration.places import Place, places
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Adapter


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """The factors of one module of all adapters: ``left [d_out, R]`` with the scaling, ``right [d_in, R]``, R = Σ r_i.

    ``owner [R]`` says which adapter a rank unit belongs to.
    """

    place: Place
    left: Tensor
    right: Tensor
    owner: Tensor

    @classmethod
    def of(cls, place: Place, adapters: Sequence[Adapter]) -> SideBySide:
        """The factors where the module's weight lies, in the dtype to compute in; an adapter without the module has none."""
        held = [(i, factors) for i, adapter in enumerate(adapters) if (factors := adapter.modules.get(place.name)) is not None]
        settings: dict[str, Any] = {"device": place.device, "dtype": place.dtype}
        left = torch.cat([factors.B.detach().double() * factors.scaling for _, factors in held], dim=1).to(**settings)
        right = torch.cat([factors.A.detach().double().T for _, factors in held], dim=1).to(**settings).contiguous()
        owner = torch.cat([torch.full((factors.rank,), i) for i, factors in held])
        return cls(place, left, right, owner.to(place.device))

    def term(self, x: Tensor, coefficients: Tensor, units: Tensor | None) -> Tensor:
        """``Σ_i c_i ΔW_i x`` for inputs ``x [..., d_in]`` (of an embedding: indices) and coefficients ``[n]``."""
        c = coefficients.to(self.left)[self.owner]
        if units is not None:
            c = c * units.to(c)
        if not self.place.is_embedding:
            return ((x.to(self.left.dtype) @ self.right) * c) @ self.left.T
        scale = getattr(self.place.module, "embed_scale", 1.0)  # some of transformers' embeddings multiply what they look up
        return (nn.functional.embedding(x, self.right) * c) @ self.left.T * scale


class Site:
    """The adapters on a model, as long as they are attached. Whatever is set here counts from the next forward pass on.

    ``coefficients [n, L]``: one per adapter and module, in the order of ``modules``; float of any precision, may require a
    gradient. ``units``: by module, one factor per rank unit ``[R]``, the adapters' units one after the other, as many each
    as ``ranks[module]`` says; a module that is not in it has none. Those may require a gradient, too.
    """

    def __init__(self, found: Sequence[Place], adapters: Sequence[Adapter], coefficients: Tensor | None) -> None:
        self.modules = tuple(place.name for place in found)
        self.ranks: Mapping[str, tuple[int, ...]] = {
            name: tuple(adapter.modules[name].rank if name in adapter.modules else 0 for adapter in adapters)
            for name in self.modules
        }
        self.parts = tuple(SideBySide.of(place, adapters) for place in found)
        self._shape = (len(adapters), len(found))
        self._units: dict[str, Tensor] = {}
        self.coefficients = torch.full(self._shape, 1.0 / len(adapters)) if coefficients is None else coefficients

    @property
    def coefficients(self) -> Tensor:
        return self._coefficients

    @coefficients.setter
    def coefficients(self, values: Tensor) -> None:
        if tuple(values.shape) != self._shape:
            raise UsageError(f"coefficients: got {list(values.shape)}, expected {list(self._shape)} (adapters, modules)")
        self._coefficients = values

    @property
    def units(self) -> Mapping[str, Tensor]:
        return self._units

    @units.setter
    def units(self, units: Mapping[str, Tensor]) -> None:
        for module, values in units.items():
            if module not in self.ranks or tuple(values.shape) != (sum(self.ranks[module]),):
                expected = f"[{sum(self.ranks[module])}]" if module in self.ranks else "a module that is adapted"
                raise UsageError(f"units of module {module!r}: got {list(values.shape)}, expected {expected}")
        self._units = dict(units)

    def table(self, module: str, units: Tensor) -> Tensor:
        """The units ``[R]`` of a module as ``[n, r]``, r the largest of the ranks: zeros where an adapter has fewer."""
        ranks = self.ranks[module]
        rows = [nn.functional.pad(own, (0, max(ranks) - len(own))) for own in torch.split(units, list(ranks))]
        return torch.stack(rows)

    def answer(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """What module ``index`` answers instead of ``y`` to the inputs ``x``."""
        term = self.parts[index].term(x, self._coefficients[:, index], self._units.get(self.modules[index]))
        return (y + term).to(y.dtype)


@contextmanager
def attached(model: nn.Module, adapters: Sequence[Adapter], coefficients: Tensor | None = None) -> Iterator[Site]:
    """Put ``adapters`` on ``model`` for the time of a ``with`` block; ``coefficients [n, L]`` are 1/n by default.

    Meanwhile the model is in evaluation mode and none of its parameters requires a gradient; what its modules answer is
    what PEFT's do with the same factors. On exit, also by an exception, the model is as it was.

    Raises UsageError without adapters or for coefficients of another shape, and IncompatibleError for modules that the
    model has not or has in other shapes.
    """
    if not adapters:
        raise UsageError("nothing to attach: expected at least one adapter")
    site = Site(places(model, adapters), adapters, coefficients)
    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        for index, part in enumerate(site.parts):
            hook = part.place.module.register_forward_hook(_hook(site, index), with_kwargs=True)
            stack.callback(hook.remove)
        yield site


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients of parameters inside the block; afterwards everything as it was."""
    training = {module: module.training for module in model.modules()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)


def module_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The tensor that a linear or embedding module was called with."""
    x = args[0] if args else next(iter(kwargs.values()))
    assert isinstance(x, Tensor)
    return x


def _hook(site: Site, index: int) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        return site.answer(index, module_input(args, kwargs), output)

    return hook
