"""A constant added to what a model reads: to its token embeddings, or to its input if that is made of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Perturbation:
    """``value [width]`` is added from the next forward pass on, broadcast over batch and tokens; None adds nothing.

    ``width`` is that of what the last forward pass brought by, 0 before the first.
    """

    def __init__(self) -> None:
        self.value: Tensor | None = None
        self.width = 0

    def added(self, x: Tensor) -> Tensor:
        """``x + value``."""
        self.width = int(x.shape[-1])
        return x if self.value is None else x + self.value.to(x)


@contextmanager
def perturbed(model: nn.Module) -> Iterator[Perturbation]:
    """Lets a perturbation be added for the time of a ``with`` block.

    Where: after ``model.get_input_embeddings()`` of a Hugging Face model, else after the first embedding, else to the first
    tensor that the model is called with.
    """
    perturbation = Perturbation()
    embedding = input_embedding(model)
    if embedding is not None:
        handle = embedding.register_forward_hook(lambda _module, _args, output: perturbation.added(output))
    else:
        handle = model.register_forward_pre_hook(
            lambda _module, args, kwargs: _first_changed(args, kwargs, perturbation), with_kwargs=True
        )
    try:
        yield perturbation
    finally:
        handle.remove()


def input_embedding(model: nn.Module) -> nn.Module | None:
    """The module that turns tokens into vectors, or None if the model has no embedding."""
    getter = getattr(model, "get_input_embeddings", None)
    found = getter() if callable(getter) else None
    if isinstance(found, nn.Module):
        return found
    return next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)


def _first_changed(
    args: tuple[Any, ...], kwargs: dict[str, Any], perturbation: Perturbation
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (perturbation.added(args[0]), *args[1:]), kwargs
    name, value = next(iter(kwargs.items()))
    return args, {**kwargs, name: perturbation.added(value)}
