"""Open the two files of a PEFT directory: regular files only, no links, nothing else read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Source:
    """An opened directory: ``config`` bytes, ``weights`` open for reading at 0 (the caller closes it, or uses ``with``),
    ``weights_size`` in bytes, and the names of the files beside them that are not kept."""

    config: bytes
    weights: BinaryIO
    weights_size: int
    not_kept: tuple[str, ...]

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.weights.close()


def open_directory(path: Path) -> Source:
    """Open ``path``; NotFoundError if it does not exist, RefusedInputError if it is no plain PEFT directory."""
    raise NotImplementedError
