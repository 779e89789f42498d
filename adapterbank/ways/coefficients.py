"""coefficients: several learned sets beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterbank.catalog import versions
from adapterbank.catalog.rows import Artefact
from adapterbank.errors import UsageError
from adapterbank.ways.artefacts import coefficients_of
from adapterbank.ways.merge_results import CoefficientsCompared
from adapterbank.ways.rooms import Rooms


def compare(rooms: Rooms, chosen: Sequence[Artefact]) -> CoefficientsCompared:
    """Means and spreads over modules, and cosines between the sets. Raises UsageError for sets that cannot be compared."""
    sets = {artefact.ref: coefficients_of(rooms, artefact) for artefact in chosen}
    first = next(iter(sets.values()))
    for ref, each in sets.items():
        if set(each.names) != set(first.names) or each.modules != first.modules:
            raise UsageError(
                f"{ref} is over other adapters or modules than {chosen[0].ref}", hint="adapterbank coefficients list"
            )
    with rooms.catalog.reading() as tx:
        refs = {versions.get(tx, ref).content: ref for ref in chosen[0].versions}
    rows = {ref: {refs[n]: row for n, row in zip(each.names, each.values, strict=True)} for ref, each in sets.items()}
    flat = torch.stack([torch.cat([rows[ref][version] for version in chosen[0].versions]) for ref in sets])
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    return CoefficientsCompared(
        tuple(sets),
        tuple(artefact.kind for artefact in chosen),
        {ref: {version: float(row.mean()) for version, row in own.items()} for ref, own in rows.items()},
        {ref: {version: float(row.std(correction=0)) for version, row in own.items()} for ref, own in rows.items()},
        tuple(tuple(row) for row in (unit @ unit.T).tolist()),
    )
