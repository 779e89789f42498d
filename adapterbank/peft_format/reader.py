"""Factors as views into the bytes of a weights file."""

from __future__ import annotations

from typing import Any

from adapterbank.lora.adapter import Adapter


def read(config: bytes, weights: Any) -> Adapter:
    """The adapter in ``weights`` (a writable buffer, such as an ACCESS_COPY mapping, whose tensors are views of it)."""
    raise NotImplementedError
