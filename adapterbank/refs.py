"""Names and references: ``name`` · ``name@3`` · ``name@alias`` · ``sha256:prefix``.

A name is safe as a path part, in a URL and in a serving request, on every platform: letters, digits, ``.``, ``_``
and ``-``, at most 128 of them. An alias is such a name that is not all digits, so that ``@3`` is always a version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from adapterbank.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{8,64})")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}
_RULE = "1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"


def check_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it is allowed; raise UsageError saying which rule it breaks."""
    if not _NAME.fullmatch(name) or ".." in name or name.endswith("."):
        raise UsageError(f"{what} {name!r} is not allowed: expected {_RULE}, without '..' and not ending in '.'")
    if name.split(".")[0].lower() in _RESERVED:
        raise UsageError(f"{what} {name!r} is not allowed: it is a device name on Windows")
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` if it is allowed: a name that is not all digits (those are version numbers)."""
    check_name(alias, "alias")
    if alias.isdigit():
        raise UsageError(f"alias {alias!r} is not allowed: digits alone mean a version number")
    return alias


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed reference. Exactly one of ``digest`` and ``name`` is set; ``version`` and ``alias`` refine ``name``."""

    name: str | None = None
    version: int | None = None
    alias: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Parse one reference; UsageError names the forms that exist."""
        if text.startswith("sha256:"):
            match = _DIGEST.fullmatch(text)
            if match is None:
                raise UsageError(f"reference {text!r}: expected sha256: and 8 to 64 lower-case hex digits")
            return cls(digest=match.group(1))
        name, at, selector = text.partition("@")
        if at and not name:
            raise UsageError(f"reference {text!r}: expected a name before '@'")
        check_name(name, "reference")
        if not at:
            return cls(name=name)
        if selector.isdigit():
            if selector != str(int(selector)) or int(selector) < 1:
                raise UsageError(f"reference {text!r}: versions count from 1, without leading zeros")
            return cls(name=name, version=int(selector))
        return cls(name=name, alias=check_alias(selector))

    def __str__(self) -> str:
        if self.digest is not None:
            return f"sha256:{self.digest}"
        selector = self.version if self.version is not None else self.alias
        return f"{self.name}" if selector is None else f"{self.name}@{selector}"
