"""Write factors as a PEFT directory that PEFT loads unchanged: scaling 1, exact targets, deterministic bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterbank.lora.adapter import Adapter

if TYPE_CHECKING:
    import torch


def encode(
    adapter: Adapter,
    config: bytes | None = None,
    *,
    dtype: torch.dtype,
    marks: Mapping[str, Any] | None = None,
    naming: str = "current",
) -> dict[str, bytes]:
    """The files of the directory by name: ``adapter_config.json``, ``adapter_model.safetensors`` and, with ``marks``,
    ``adapterbank.json``. ``config`` is a template whose task, saved modules and base model are kept."""
    raise NotImplementedError


def write_directory(dest: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` as the directory ``dest``, all or nothing; ConflictError if ``dest`` exists and is not empty."""
    raise NotImplementedError
