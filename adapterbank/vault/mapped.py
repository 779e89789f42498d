"""A whole file as a buffer, without a copy where its bytes are the content."""

from __future__ import annotations

import mmap
import os
from types import TracebackType


class Mapped:
    """``buffer`` holds the bytes of one file: a private mapping, or a bytearray for an empty file and for a compressed one.

    The mapping is copy-on-write. Nobody should write to it (the file would not change), but ``torch.frombuffer`` and
    numpy take it without a warning about read-only memory. It outlives the file's name: an object that is deleted
    meanwhile stays readable here.
    """

    __slots__ = ("buffer",)

    def __init__(self, fd: int) -> None:
        """Map the open file ``fd``, which may be closed afterwards."""
        size = os.fstat(fd).st_size
        self.buffer: mmap.mmap | bytearray = mmap.mmap(fd, size, access=mmap.ACCESS_COPY) if size else bytearray()

    @classmethod
    def of(cls, content: bytes) -> Mapped:
        """The same look at bytes that lie in no file as they are."""
        mapped = cls.__new__(cls)
        mapped.buffer = bytearray(content)
        return mapped

    def __len__(self) -> int:
        return len(self.buffer)

    def close(self) -> None:
        """Let go of the mapping: it is unmapped with the last array or tensor that looks into it.

        It must not be unmapped here: a tensor of ``torch.frombuffer`` refers to the mapping, but does not keep it open.
        """
        self.buffer = bytearray()

    def __enter__(self) -> Mapped:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
