"""Lets the serving room load on a machine with torch, triton, peft and safetensors only."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def stand_in() -> None:
    """An empty ``zstandard`` where there is none: objects on disk are then not read, and nothing here reads one."""
    if importlib.util.find_spec("zstandard") is None:
        sys.modules["zstandard"] = ModuleType("zstandard")
