"""Where adapters go in a model: its modules by the adapters' names, checked for kind and shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapterbank.errors import IncompatibleError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.layout import Layout


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One adapted module: ``weight`` acts as ``[d_out, d_in]``; an embedding has ``d_in`` rows to look up."""

    name: str
    module: nn.Module
    d_out: int
    d_in: int
    is_embedding: bool = False

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What low-rank terms are computed in: the weight's, at least float32."""
        return torch.promote_types(self._weight.dtype, torch.float32)

    @property
    def _weight(self) -> Tensor:
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight


def places(model: nn.Module, adapters: Sequence[Adapter]) -> tuple[Place, ...]:
    """The modules of ``model`` that any of the ``adapters`` changes, in order of name.

    Raises IncompatibleError for a module that the model has not, of a kind other than linear or embedding, or of another
    shape, and for adapters whose shapes differ.
    """
    shapes = {shape.name: shape for shape in Layout.union(adapter.shapes for adapter in adapters)}
    modules = dict(model.named_modules())
    found = []
    for name, shape in sorted(shapes.items()):
        if name not in modules:
            raise IncompatibleError(f"the model has no module {name!r}, which an adapter changes", hint=_similar(name, modules))
        place = _place(name, modules[name])
        if (place.d_out, place.d_in, place.is_embedding) != (shape.d_out, shape.d_in, shape.kind == "embedding"):
            here = f"{place.d_out}×{place.d_in} {'embedding' if place.is_embedding else 'linear'}"
            raise IncompatibleError(
                f"module {name!r}: got an adapter for {shape.d_out}×{shape.d_in} {shape.kind}, the model's is {here}"
            )
        found.append(place)
    return tuple(found)


def _place(name: str, module: nn.Module) -> Place:
    if isinstance(module, nn.Linear):
        return Place(name, module, module.out_features, module.in_features)
    if isinstance(module, nn.Embedding):
        return Place(name, module, module.embedding_dim, module.num_embeddings, is_embedding=True)
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and isinstance(weight, Tensor) and weight.ndim == 2:  # of transformers: x @ weight
        return Place(name, module, int(weight.shape[1]), int(weight.shape[0]))
    raise IncompatibleError(
        f"module {name!r} is a {type(module).__name__}: calibration knows Linear, Embedding and transformers' Conv1D"
    )


def _similar(name: str, modules: Iterable[str]) -> str:
    """The model's own name for it, if that differs only in front."""
    found = [other for other in modules if other and (other.endswith(f".{name}") or name.endswith(f".{other}"))]
    longest = max(found, key=len, default="")
    return f"it has {longest!r}: give the model that the adapters were trained on" if longest else "is it their base model?"
