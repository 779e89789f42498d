"""Bytes as people write them."""

from __future__ import annotations

from adapterbank.errors import UsageError

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def size(text: str | int, what: str) -> int:
    """Bytes from ``8GiB``, ``512MiB`` or a plain number. Raises UsageError, naming ``what``, for anything else."""
    if isinstance(text, int):
        return text
    number = text.rstrip("KMGTiB")
    unit = _UNITS.get(text[len(number) :])
    try:
        if unit is None:
            raise ValueError(text)
        return int(float(number) * unit)
    except ValueError:
        raise UsageError(f"{what} is {text!r}: expected bytes, or a number with {', '.join(u for u in _UNITS if u)}") from None
