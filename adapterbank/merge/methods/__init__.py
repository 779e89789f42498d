"""The table of merge methods: one line each; command line options, documentation and law tests follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from adapterbank.merge.method import Method
from adapterbank.merge.methods import average, cat, dare_linear, dare_ties, linear_factors, svd, task_arithmetic, ties

METHODS: Mapping[str, Method] = {
    "average": average.METHOD,
    "task_arithmetic": task_arithmetic.METHOD,
    "cat": cat.METHOD,
    "svd": svd.METHOD,
    "ties": ties.METHOD,
    "dare_linear": dare_linear.METHOD,
    "dare_ties": dare_ties.METHOD,
    "linear_factors": linear_factors.METHOD,
}
