"""The table of merge methods: one line each; command line options, documentation and law tests follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from adapterbank.merge.method import Method
from adapterbank.merge.methods import (
    average,
    cart,
    cat,
    compress_then_merge,
    core_space,
    dare_linear,
    dare_ties,
    fisher,
    iso_c,
    iso_cts,
    knots,
    linear_factors,
    lora_lego,
    regmean,
    regmean_plus_plus,
    robust_merge,
    svd,
    task_arithmetic,
    ties,
    tsv_m,
)

METHODS: Mapping[str, Method] = {
    "average": average.METHOD,
    "task_arithmetic": task_arithmetic.METHOD,
    "cat": cat.METHOD,
    "svd": svd.METHOD,
    "ties": ties.METHOD,
    "dare_linear": dare_linear.METHOD,
    "dare_ties": dare_ties.METHOD,
    "linear_factors": linear_factors.METHOD,
    "fisher": fisher.METHOD,
    "regmean": regmean.METHOD,
    "regmean_plus_plus": regmean_plus_plus.METHOD,
    "knots": knots.METHOD,
    "core_space": core_space.METHOD,
    "tsv_m": tsv_m.METHOD,
    "iso_c": iso_c.METHOD,
    "iso_cts": iso_cts.METHOD,
    "cart": cart.METHOD,
    "compress_then_merge": compress_then_merge.METHOD,
    "lora_lego": lora_lego.METHOD,
    "robust_merge": robust_merge.METHOD,
}
