"""load: the factors of a version as a value, from its exact bytes or else from the form that stands for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adapterbank.catalog import members
from adapterbank.catalog.rows import Member, Version
from adapterbank.errors import IntegrityError
from adapterbank.lora.adapter import Adapter
from adapterbank.peft_format.reader import read
from adapterbank.ways.rooms import Rooms, weights_of


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """``form`` is None for the exact adapter, else the bounded form that it was decoded from; ``config`` is the original's."""

    adapter: Adapter
    config: bytes
    form: Member | None = None


@contextmanager
def load(rooms: Rooms, version: Version) -> Iterator[Loaded]:
    """The exact adapter, its tensors views into the mapped object, else what the form with the smallest error decodes to."""
    if version.level != "bounded":
        with weights_of(rooms, version) as (config, mapped):
            yield Loaded(read(config, mapped.buffer), config)
        return
    from adapterbank.ways.reconstruct import reconstruct_member

    with rooms.catalog.reading() as tx:
        forms = members.of_version(tx, version)
    if not forms:
        raise IntegrityError(f"{version.ref} is at level bounded but no form stands for it", hint="adapterbank verify")
    yield Loaded(reconstruct_member(rooms, forms[0]), rooms.vault.read(version.config), forms[0])
