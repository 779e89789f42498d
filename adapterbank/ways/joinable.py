"""Which versions may be joined in a basis or a merge at all."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank.catalog.rows import Version
from adapterbank.errors import ConflictError, IncompatibleError, UsageError


def each_once(chosen: Sequence[Version], what: str) -> None:
    """Raise UsageError unless there are versions in ``chosen``, none of them twice; ``what`` is to be made of them."""
    if not chosen:
        raise UsageError(f"{what} needs at least one adapter", hint="adapterbank list")
    refs = [version.ref for version in chosen]
    twice = sorted({ref for ref in refs if refs.count(ref) > 1})
    if twice:
        raise UsageError(f"given more than once: {', '.join(twice)}")


def same_base_model(chosen: Sequence[Version], base_model: str | None = None) -> None:
    """Raise IncompatibleError naming the base models of ``chosen`` (and ``base_model``) unless they are one.

    Equal shapes prove nothing.
    """
    told = {version.base_model: f"{version.ref} on {version.base_model}" for version in chosen}
    if base_model is not None and base_model not in told:
        told[base_model] = f"the basis on {base_model}"
    if len(told) > 1:
        raise IncompatibleError(
            f"different base models: {', '.join(told.values())}",
            hint="if these are one model, say so: adapterbank model join NAME OTHER_NAME",
        )


def not_bounded(chosen: Sequence[Version]) -> None:
    """Raise ConflictError naming the versions whose exact bytes are gone: another form would add its error to theirs."""
    bounded = [version.ref for version in chosen if version.level == "bounded"]
    if bounded:
        raise ConflictError(
            f"kept only in a bounded form: {', '.join(bounded)}; another form would add its error to theirs",
            hint="leave them out, or register their original files again; basis rebuild takes --accept-generation-loss",
        )


def plain_lora(chosen: Sequence[Version]) -> None:
    """Raise IncompatibleError for versions whose update is not s·B·A alone, with the reason for each."""
    odd = [f"{version.ref}: {version.obstacle}" for version in chosen if version.obstacle is not None]
    if odd:
        raise IncompatibleError(f"not a linear function of B·A, so never in a basis or merge: {'; '.join(odd)}")
