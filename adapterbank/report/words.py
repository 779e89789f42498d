"""Numbers and texts as people read them."""

from __future__ import annotations

from typing import Any

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: int) -> str:
    """Bytes in decimal units: ``1.2 MB``."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def error(value: float | None) -> str:
    """A relative error with three digits that matter; a number that is not finite is a dash."""
    return "–" if value is None else f"{value:.3g}"


def figure(value: float) -> str:
    """A number with three digits that matter."""
    return f"{value:.3g}"


def share(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f} %"


def when(text: str) -> str:
    """An ISO time to the minute."""
    return text[:16].replace("T", " ")


def short(digest: str) -> str:
    """The first twelve digits: enough for a reference."""
    return f"sha256:{digest[:12]}"


def several(values: list[Any]) -> str:
    """Values beside each other."""
    return ", ".join(safe(value) for value in values)


def pairs(values: dict[str, Any]) -> str:
    """``k=v`` beside each other."""
    return ", ".join(f"{safe(key)}={safe(value)}" for key, value in values.items())


def gist(text: str | None) -> str:
    """The first two lines of a text on one: what happened, and the first finding below it."""
    return safe(" ".join(line.strip() for line in (text or "").splitlines()[:2]))


def safe(value: Any) -> str:
    """A value as text that cannot steer a terminal: control characters are escaped."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
