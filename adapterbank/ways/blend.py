"""blend: a mixture of adapters in ΔW space, exact: their factors side by side along the rank axis, or cut to a rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapterbank.catalog.rows import Version
from adapterbank.peft_format.directory import write_directory
from adapterbank.ways.lineage import plan
from adapterbank.ways.merge import encoded, run
from adapterbank.ways.merge_results import Blended, WrittenBlend
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms

_EXACT = "cat"


def blend(
    rooms: Rooms,
    chosen: Sequence[tuple[Version, float]],
    *,
    rank: Any = None,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Blended:
    """``Σ w_i ΔW_i`` as one adapter of scaling 1: of rank Σ r_i without loss, or of ``rank`` with the residual of the cut.

    Nothing is stored. Raises UsageError, IncompatibleError.
    """
    of = plan(_EXACT, chosen, rank=rank, dtype=dtype)
    merged = run(rooms, of, progress=progress).merged
    adapter = replace(merged.adapter, base_model=chosen[0][0].base_model)
    return Blended(adapter, {version.ref: weight for version, weight in chosen}, merged.rank, merged.residual)


def write_blend(
    rooms: Rooms,
    chosen: Sequence[tuple[Version, float]],
    directory: Path,
    *,
    rank: Any = None,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> WrittenBlend:
    """The same as a PEFT directory. Raises ConflictError if ``directory`` exists and is not empty."""
    of = plan(_EXACT, chosen, rank=rank, dtype=dtype)
    merged = run(rooms, of, progress=progress).merged
    config, weights = encoded(rooms, merged, chosen[0][0])
    write_directory(directory, {"adapter_config.json": config, "adapter_model.safetensors": weights})
    told = {version.ref: weight for version, weight in chosen}
    return WrittenBlend(str(directory), told, merged.rank, merged.residual, len(config) + len(weights))
