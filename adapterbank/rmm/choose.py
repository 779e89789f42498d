"""Choosing p from a survey: by explained energy, by the worst member's error, or by bytes."""

from __future__ import annotations

from adapterbank.errors import ErrorBoundError, UsageError
from adapterbank.rmm.survey import Option, Survey

_SLACK = 1e-12  # with all components the explained energy is 1 up to the rounding of sums


def by_energy(survey: Survey, share: float) -> Option:
    """The fewest components that explain ``share`` (0 to 1) of the variance; UsageError outside of that range."""
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"energy {share:g}: expected a share between 0 and 1")
    return next(option for option in survey.options if option.energy >= share - _SLACK)


def by_error(survey: Survey, max_error: float) -> Option:
    """The fewest components with which the worst member's relative ΔW error is at most ``max_error``.

    Raises ErrorBoundError, saying the best that can be reached, where none do.
    """
    found = next((option for option in survey.options if option.worst <= max_error), None)
    if found is not None:
        return found
    best = min(survey.options, key=lambda option: option.worst)
    raise ErrorBoundError(
        f"no number of components keeps every member within {max_error:g}: the best is {best.worst:.3g} with {best.p}",
        hint="store float32, or allow a larger error",
    )


def by_budget(survey: Survey, share: float, original_bytes: int) -> Option:
    """The most components whose basis and members take at most ``share`` of the originals' bytes.

    Raises UsageError, saying the smallest share that can be reached, where not even the mean alone does.
    """
    fitting = [option for option in survey.options if option.bytes <= share * original_bytes]
    if fitting:
        return fitting[-1]
    least = survey.options[0]
    raise UsageError(
        f"budget {share:g} of {original_bytes} bytes cannot be met: the mean alone takes {least.bytes} bytes "
        f"({least.bytes / original_bytes:.3g} of them)"
    )
