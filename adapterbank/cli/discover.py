"""Adapter directories below a folder, and names for them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from adapterbank.errors import NotFoundError

CONFIG = "adapter_config.json"
_LARGEST_CONFIG = 64 * 1024  # bytes; the limit of the strict reader, which judges the file afterwards


def find_adapters(root: Path) -> Iterator[Path]:
    """Every directory below ``root`` that holds an adapter's configuration, in order; symbolic links are not followed."""
    if not root.is_dir():
        raise NotFoundError(f"{root} is no folder", hint="name a folder with adapters below it")
    for folder, below, files in os.walk(root):
        below.sort()
        if CONFIG in files:
            yield Path(folder)


def name_from_directory(path: Path) -> str:
    """The directory's own name."""
    return path.resolve().name


def name_from_config(path: Path) -> str:
    """The configuration's ``adapter_name`` or ``name``, else the base model's last part and the directory's name."""
    fields = _config(path)
    for key in ("adapter_name", "name"):
        if isinstance(fields.get(key), str) and fields[key]:
            return str(fields[key])
    base = fields.get("base_model_name_or_path")
    last = base.rstrip("/").rpartition("/")[2] if isinstance(base, str) else ""
    return "-".join(filter(None, [last, name_from_directory(path)]))


def _config(path: Path) -> dict[str, object]:
    """The configuration's fields; none where it cannot be read, the strict reader says why."""
    with suppress(OSError, ValueError, RecursionError), (path / CONFIG).open("rb") as file:
        fields = json.loads(file.read(_LARGEST_CONFIG))
        return fields if isinstance(fields, dict) else {}
    return {}


NAMERS: dict[str, Callable[[Path], str]] = {"dir": name_from_directory, "config": name_from_config}
