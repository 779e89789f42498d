"""Inspect the two files of a PEFT directory, without torch and before any library reads them."""

from __future__ import annotations

from typing import Any

from adapterbank.peft_format.facts import Facts, Inspection

__all__ = ["Facts", "Inspection", "inspect"]


def inspect(config: bytes, weights: Any) -> Inspection:
    """Facts, warnings and the content digest of an adapter; RefusedInputError lists every problem there is.

    ``weights`` is a buffer (bytes or a mapping) with the whole of ``adapter_model.safetensors``.
    """
    raise NotImplementedError
