"""adapterbank: a bank for LoRA adapters. ``from adapterbank import Bank``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Bank", "__version__"]

if TYPE_CHECKING:
    from adapterbank.bank import Bank


def __getattr__(name: str) -> Any:
    """Import the façade on first use: ``import adapterbank`` alone stays fast."""
    if name == "Bank":
        from adapterbank.bank import Bank

        return Bank
    raise AttributeError(f"module 'adapterbank' has no attribute {name!r}")
