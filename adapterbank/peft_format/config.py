"""``adapter_config.json`` as a value: attacker's text, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class LoraConfig:
    """The fields that matter, defaults filled in; ``fields`` is the whole parsed object."""

    rank: int
    alpha: float
    rslora: bool
    base_model: str | None
    fields: Mapping[str, Any]

    def rank_for(self, module: str) -> int:
        """The rank PEFT gives to ``module``."""
        raise NotImplementedError

    def scaling_for(self, module: str) -> float:
        """α/r, or α/√r with rsLoRA, of ``module``."""
        raise NotImplementedError


def parse(data: bytes) -> LoraConfig:
    """The configuration; RefusedInputError with every problem in it."""
    raise NotImplementedError
