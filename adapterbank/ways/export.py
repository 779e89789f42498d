"""export: the registered bytes of a version back as a PEFT directory, bit for bit."""

from __future__ import annotations

from pathlib import Path

from adapterbank.catalog.rows import Version
from adapterbank.errors import BoundedOnlyError
from adapterbank.peft_format.directory import write_directory
from adapterbank.ways.results import Exported
from adapterbank.ways.rooms import Rooms, weights_of


def export(rooms: Rooms, version: Version, directory: Path, *, bounded: bool = False) -> Exported:
    """Write both files as they were registered. Raises BoundedOnlyError where ``compact`` dropped them, unless
    ``bounded``: then the approximation is written, and marked as one in ``adapterbank.json``."""
    try:
        with weights_of(rooms, version) as (config, mapped):
            files = {"adapter_config.json": config, "adapter_model.safetensors": mapped.buffer}
            write_directory(directory, files)
            return Exported(version, str(directory), True, 0.0, len(config) + len(mapped))
    except BoundedOnlyError:
        if not bounded:
            raise
    from adapterbank.ways.reconstruct import write_reconstruction

    written = write_reconstruction(rooms, version, directory)
    return Exported(version, str(directory), False, written.error, written.bytes)
