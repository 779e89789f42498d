"""How large a basis shall be, and which codec that asks for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapterbank.errors import UsageError

RMM, RD = "rmm", "rd"
CODECS = (RD, RMM)
_PUBLISHED = {
    "components": "a number of components",
    "energy": "a share of the variance",
    "gauge": "a gauge",
    "dtype": "a store dtype",
}
_CODED = {"bits": "bits per parameter", "effort": "an effort"}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a basis shall be: exactly one of the number p of components, the explained share of the variance, the bits
    per LoRA parameter of each member, the largest relative ΔW error of a member, and the share of the originals' bytes
    (everything counted)."""

    components: int | None = None
    energy: float | None = None
    bits: float | None = None
    max_error: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in asdict(self).items() if value is not None]
        if len(given) != 1:
            raise UsageError(f"give exactly one of {', '.join(asdict(self))}; got {', '.join(given) or 'none'}")
        if self.components is not None and (type(self.components) is not int or self.components < 0):
            raise UsageError(f"components: got {self.components!r}, expected 0, 1, 2 …")
        if self.budget is not None and not self.budget > 0:
            raise UsageError(f"budget: got {self.budget!r}, expected a share above 0")


@dataclass(frozen=True, slots=True)
class Published:
    """The codec ``rmm``: one mean and one set of components for all, fitted in a gauge and stored in a dtype."""

    gauge: str = "given"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class OneByOne:
    """The codec ``rd``: each adapter coded with an effort of 0 to 3, against others where that saves bytes."""

    effort: int = 1


def way_of(codec: str | None, settings: Mapping[str, Any]) -> Published | OneByOne:
    """What ``settings`` (None: not given) ask for: the published method if one of them belongs to it, else one by one.

    Raises UsageError if ``codec`` or others of them say otherwise.
    """
    if codec not in (None, *CODECS):
        raise UsageError(f"codec {codec!r}: expected one of {', '.join(CODECS)}")
    given = {name: value for name, value in settings.items() if value is not None}
    published = [words for name, words in _PUBLISHED.items() if name in given]
    coded = [words for name, words in _CODED.items() if name in given]
    if published and (coded or codec == RD):
        other = " and ".join(coded) or "codec rd"
        raise UsageError(f"{' and '.join(published)}: of the published method only (codec rmm), does not go with {other}")
    if coded and codec == RMM:
        raise UsageError(f"{' and '.join(coded)}: of codec rd only, does not go with the published method (codec rmm)")
    if codec == RMM or published:
        return Published(**{name: given[name] for name in ("gauge", "dtype") if name in given})
    return OneByOne(**{name: given[name] for name in ("effort",) if name in given})


def refuse_larger(size: int, original: int, what: str, force: bool | None, hint: str) -> None:
    """Raise UsageError if a basis would take more bytes than its originals; with ``force`` None only warn, if true accept."""
    if size <= original or force:
        return
    message = f"{what} the basis and its members take {size} bytes, more than the {original} of their originals"
    if force is None:
        warnings.warn(message, stacklevel=6)  # at the caller of the façade: this, prepared, its context manager, the way
        return
    raise UsageError(message, hint=f"{hint}, or --force")
