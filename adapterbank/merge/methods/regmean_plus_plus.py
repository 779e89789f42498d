"""RegMean++ (arXiv 2508.03121): RegMean with the inputs that a module will get once the layers before it are merged.

The merge of a layer is RegMean's; what differs is calibration (``gram_merged``): layer by layer, each task's batches run
through the layers merged so far. So the Gram matrices belong to these adapters together and to the options they were made with;
those layers are merged with equal weights, whatever the weights of the final merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterbank.errors import UsageError
from adapterbank.merge.inputs import Inputs
from adapterbank.merge.least_squares import Ratio, Ridge
from adapterbank.merge.method import Method, Pieces
from adapterbank.merge.methods.regmean import Whiten, pieces
from adapterbank.merge.needed import needed_statistics


def regmean_plus_plus(
    inputs: Inputs, *, reduce_non_diagonal_ratio: Ratio = 0.95, ridge: Ridge = 1e-6, whiten: Whiten = True
) -> Pieces:
    """``M = (Σ w_i ΔW_i G̃_i)(Σ |w_i| G̃_i)⁻¹`` with Gram matrices of kind ``gram_merged``; reports as RegMean.

    Raises UsageError as RegMean, and for Gram matrices that were made with other adapters or other options.
    """
    statistics = needed_statistics(inputs, "gram_merged", "regmean_plus_plus")
    expected = {"with": sorted(inputs.names), "reduce_non_diagonal_ratio": reduce_non_diagonal_ratio, "ridge": ridge}
    for name in inputs.names:
        _check_made_for(statistics[name].about, expected, name)
    yield from pieces(inputs, statistics, reduce_non_diagonal_ratio, ridge, whiten=whiten)


def _check_made_for(about: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> None:
    for key, value in expected.items():
        if about.get(key) != value:
            raise UsageError(
                f"the gram_merged of adapter {name[:12]} was made {_shown(key, about.get(key))}, not {_shown(key, value)}",
                hint="adapterbank calibrate gram_merged REF… --with FILE.py:FUNCTION, adapters and options as in the merge",
            )


def _shown(key: str, value: Any) -> str:
    """``with A and B``, ``with ridge 0.1``."""
    return f"with {' and '.join(str(each)[:12] for each in value)}" if isinstance(value, list) else f"with {key} {value}"


METHOD = Method(
    name="regmean_plus_plus",
    merge=regmean_plus_plus,
    kind="statistics",
    summary="RegMean on the inputs that come through the layers merged before",
    formula="M = (Σ w·ΔW·G)(Σ |w|·G)⁻¹, G = XᵀX behind the merged layers",
    source="arXiv 2508.03121",
    laws={"itself": {}, "copies": {}, "order": {}, "zero_weight": {}, "gauge": {}},
    needs=("gram_merged",),
)
