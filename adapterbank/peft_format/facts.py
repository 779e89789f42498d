"""What an inspection of a PEFT directory finds out: facts for the catalog, problems for the person, a content digest."""

from __future__ import annotations

from dataclasses import dataclass

from adapterbank.errors import Problem
from adapterbank.lora.layout import ModuleShape


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog keeps about an adapter.

    ``kind`` is ``"lora"`` or the name of the variant (``"dora"``, ``"alora"`` …); ``dtype`` the torch name of the factors'
    type, or ``"mixed"``; ``rank`` the largest rank of a module and ``alpha`` the configured ``lora_alpha``;
    ``target_modules`` the sorted last parts of the module names; ``parameters`` counts LoRA parameters only; ``carried`` are
    the keys of the tensors that travel verbatim. ``basis_ready`` is False when the update is not s·B·A alone, and
    ``basis_reason`` then says why. ``naming`` names the table by which module names were translated (``names.py``;
    ``"current"``: none); ``cases`` are the codes of ``docs/formats.md`` that apply.
    """

    kind: str
    dtype: str
    rank: int
    alpha: float
    rslora: bool
    target_modules: tuple[str, ...]
    modules: tuple[ModuleShape, ...]
    parameters: int
    base_model: str | None
    carried: tuple[str, ...]
    basis_ready: bool
    basis_reason: str | None
    naming: str = "current"
    cases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts, what is worth telling (warnings and notes; errors are raised), and the content digest (hex, order-free)."""

    facts: Facts
    problems: tuple[Problem, ...]
    content: str
